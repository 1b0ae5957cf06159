// A load generator for llm-d-benchmark on net/http: OpenAI chat and completions.
//
//	native: {command: [./openai]}
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	loadgen "github.com/llm-d/llm-d-benchmark/sdk/go"
)

func main() {
	if err := loadgen.Serve(&openAI{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type openAI struct {
	hello  *loadgen.Hello
	client *http.Client
	dialer net.Dialer
	warm   warmConnections
}

func (*openAI) Info() loadgen.Info {
	return loadgen.Info{Name: "openai-go", Version: "1.0", Capabilities: loadgen.AllCapabilities}
}

func (g *openAI) Open(hello *loadgen.Hello) error {
	g.hello = hello
	g.dialer.Timeout = time.Duration(hello.Timeouts.ConnectS * float64(time.Second))
	trust := &tls.Config{InsecureSkipVerify: !hello.Endpoint.TLS.Verify}
	if file := hello.Endpoint.TLS.CAFile; file != nil {
		pem, err := os.ReadFile(*file)
		if err != nil {
			return err
		}
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("no certificate in %s", *file)
		}
	}
	g.client = &http.Client{
		Transport: &http.Transport{
			DialContext: g.dial, TLSClientConfig: trust, TLSHandshakeTimeout: g.dialer.Timeout,
			DisableCompression: true, MaxIdleConnsPerHost: 1 << 16,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return nil
}

// Prepare opens connections which the transport takes up by and by: net/http has no other way to open one beforehand.
func (g *openAI) Prepare(connections int) {
	address, err := url.Parse(g.hello.Endpoint.URL)
	if err != nil || address.Port() == "" {
		return
	}
	g.warm.fill(connections, func() (net.Conn, error) { return g.dialer.Dial("tcp", address.Host) })
}

func (g *openAI) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if connection := g.warm.take(); connection != nil {
		return connection, nil
	}
	return g.dialer.DialContext(ctx, network, address)
}

func (g *openAI) Close() { g.client.CloseIdleConnections() }

func (g *openAI) Send(ctx context.Context, call *loadgen.Call) error {
	var asked time.Time
	trace := &httptrace.ClientTrace{
		GetConn: func(string) { asked = time.Now() },
		GotConn: func(info httptrace.GotConnInfo) {
			if !info.Reused {
				call.Connected(time.Since(asked))
			}
			call.MarkSent()
		},
	}
	address := strings.TrimRight(g.hello.Endpoint.URL, "/") + call.Path()
	ctx = httptrace.WithClientTrace(ctx, trace)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(call.Body()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	// Present and empty, it is not sent, but lets net/http send once more what an idle connection just closed did not take.
	request.Header["Idempotency-Key"] = nil
	for name, value := range g.hello.Headers {
		request.Header.Set(name, value)
	}
	response, err := g.client.Do(request)
	if err != nil {
		return beforeResponse(err)
	}
	defer response.Body.Close()
	call.HTTPStatus = response.StatusCode
	if response.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, response.Body)
		return loadgen.Fail(errorClass(response.StatusCode), "HTTP %d", response.StatusCode)
	}
	if call.Stage.Streaming {
		return readStream(call, response.Body)
	}
	return readWhole(call, response.Body)
}

// stamped keeps when the bytes came that were read last.
type stamped struct {
	io.Reader
	at int64
}

func (s *stamped) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.at = loadgen.Now()
	return n, err
}

func readStream(call *loadgen.Call, body io.Reader) error {
	source := &stamped{Reader: body}
	lines := bufio.NewReaderSize(source, 1<<16)
	whole := false
	for {
		line, err := lines.ReadBytes('\n')
		data, isData := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data:"))
		data = bytes.TrimSpace(data)
		switch {
		case isData && string(data) == "[DONE]":
			whole = true
		case isData:
			if failure := event(call, data, source.at); failure != nil {
				return failure
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return inBody(err)
		}
	}
	if !whole && call.FinishReason == "" && call.OutputTokens == nil {
		return loadgen.Fail("truncated", "the stream ended without a finish reason or [DONE]")
	}
	return nil
}

func readWhole(call *loadgen.Call, body io.Reader) error {
	data, err := io.ReadAll(body)
	if err != nil {
		return inBody(err)
	}
	if failure := event(call, data, 0); failure != nil {
		return failure
	}
	if call.Text == "" {
		return loadgen.Fail("no_content", "the response has no content")
	}
	return nil
}

type answer struct {
	Choices []struct {
		Delta, Message *struct {
			Content          string          `json:"content"`
			ReasoningContent string          `json:"reasoning_content"`
			Reasoning        string          `json:"reasoning"`
			ToolCalls        json.RawMessage `json:"tool_calls"`
		}
		Text         string `json:"text"`
		FinishReason string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		PromptTokens     *int64 `json:"prompt_tokens"`
		CompletionTokens *int64 `json:"completion_tokens"`
		Details          *struct {
			CachedTokens *int64 `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	} `json:"usage"`
	Error  json.RawMessage `json:"error"`
	Object string          `json:"object"`
}

// event takes up one event of a stream, or a whole response, into the call.
func event(call *loadgen.Call, data []byte, at int64) error {
	var a answer
	if err := json.Unmarshal(data, &a); err != nil {
		return loadgen.Fail("protocol", "the response is not the JSON of the OpenAI API")
	}
	if given(a.Error) || a.Object == "error" {
		return loadgen.Fail("server_error_event", "error event")
	}
	if usage := a.Usage; usage != nil {
		call.InputTokens, call.OutputTokens = usage.PromptTokens, usage.CompletionTokens
		if usage.Details != nil {
			call.CachedTokens = usage.Details.CachedTokens
		}
	}
	for _, choice := range a.Choices {
		text, content := choice.Text, choice.Text != ""
		delta := choice.Delta
		if delta == nil {
			delta = choice.Message
		}
		if delta != nil {
			text += delta.Content
			content = content || text != "" || delta.ReasoningContent != "" || delta.Reasoning != "" || given(delta.ToolCalls)
		}
		if content && call.Stage.Streaming {
			call.Chunk(text, at)
		} else if content {
			call.Text = text
		}
		if choice.FinishReason != "" {
			call.FinishReason = choice.FinishReason
		}
	}
	return nil
}

func given(value json.RawMessage) bool {
	return len(value) > 0 && string(value) != "null" && string(value) != "[]"
}

func errorClass(status int) string {
	switch {
	case status >= 300 && status < 400:
		return "redirect"
	case status == http.StatusTooManyRequests:
		return "http_429"
	case status >= 400 && status < 500:
		return "http_4xx"
	case status >= 500:
		return "http_5xx"
	}
	return "protocol"
}

// beforeResponse classifies what went wrong before there was a status.
func beforeResponse(err error) error {
	var netError net.Error
	var operation *net.OpError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	text := err.Error()
	switch {
	case errors.As(err, &certificate) || errors.As(err, &record) || strings.Contains(text, "tls: "):
		return loadgen.Fail("tls", "TLS: the handshake failed")
	case errors.As(err, &operation) && operation.Op == "dial" || strings.Contains(text, "TLS handshake timeout"):
		if errors.As(err, &netError) && netError.Timeout() {
			return loadgen.Fail("timeout_connect", "no connection in time")
		}
		return loadgen.Fail("connect", "no connection")
	case strings.Contains(text, "malformed"):
		return loadgen.Fail("protocol", "not HTTP/1.1")
	case errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
		return loadgen.Fail("connect", "connection reset before any response")
	}
	return loadgen.Fail("truncated", "connection closed before any response")
}

func inBody(err error) error {
	if strings.Contains(err.Error(), "malformed") || strings.Contains(err.Error(), "invalid byte in chunk length") {
		return loadgen.Fail("protocol", "not HTTP/1.1")
	}
	return loadgen.Fail("truncated", "connection lost before the end of the response")
}

// warmConnections are open and unused.
type warmConnections struct {
	mu   sync.Mutex
	open []net.Conn
}

func (w *warmConnections) fill(count int, dial func() (net.Conn, error)) {
	w.mu.Lock()
	old := w.open
	w.open = nil
	w.mu.Unlock()
	for _, connection := range old { // what the last stage did not use may be stale
		connection.Close()
	}
	var all sync.WaitGroup
	for range count {
		all.Add(1)
		go func() {
			defer all.Done()
			if connection, err := dial(); err == nil {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.open = append(w.open, connection)
			}
		}()
	}
	all.Wait()
}

func (w *warmConnections) take() net.Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.open) == 0 {
		return nil
	}
	last := w.open[len(w.open)-1]
	w.open = w.open[:len(w.open)-1]
	return last
}
