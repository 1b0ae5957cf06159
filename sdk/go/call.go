package loadgen

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Failure is why a request failed. Class is an error class of the protocol; Message never holds prompt or response text.
type Failure struct{ Class, Message string }

func (f *Failure) Error() string { return f.Class + ": " + f.Message }

// Fail makes a Failure.
func Fail(class, format string, args ...any) *Failure {
	return &Failure{class, fmt.Sprintf(format, args...)}
}

// Call is one request on its way. Send reads Path and Body, calls Connected, MarkSent and Chunk when these happen, and
// sets what the response told. A call belongs to one goroutine at a time; MarkSent and Connected may come from another.
type Call struct {
	Hello     *Hello
	Stage     *Stage
	Session   *Session
	Turn      *Turn
	RequestID int64

	HTTPStatus   int
	FinishReason string
	InputTokens  *int64
	OutputTokens *int64
	CachedTokens *int64
	// Text of an answer that was not streamed.
	Text string
	// ChunkTokens: the tokens of each chunk, where the server tells.
	ChunkTokens []int64

	history []json.RawMessage
	said    string
	texts   strings.Builder
	chunks  []int64
	report  *report

	mu      sync.Mutex
	began   int64
	ready   int64
	sent    int64
	connect *int64
	limit   *time.Timer
}

// Path comes behind the base URL.
func (c *Call) Path() string {
	if c.Stage.Endpoint == "chat" {
		return "/v1/chat/completions"
	}
	return "/v1/completions"
}

// Body is the JSON body, the same as the native generator sends.
func (c *Call) Body() []byte {
	fields := map[string]any{"model": c.Session.Model, "stream": c.Stage.Streaming}
	switch {
	case c.Stage.Endpoint == "chat":
		fields["messages"] = append(append([]json.RawMessage{}, c.history...), c.Turn.Messages...)
	case c.Turn.TokenIDs != nil:
		fields["prompt"] = c.Turn.TokenIDs
	default:
		fields["prompt"] = c.said + text(c.Turn)
	}
	if c.Turn.OutputAsked != nil {
		fields["max_tokens"] = *c.Turn.OutputAsked
	}
	if c.Stage.Streaming {
		fields["stream_options"] = map[string]bool{"include_usage": true}
	}
	for _, params := range []map[string]json.RawMessage{c.Hello.Parameters, c.Turn.Params} {
		for name, value := range params {
			fields[name] = value
		}
	}
	body, err := json.Marshal(fields)
	if err != nil {
		panic(err) // every value came from JSON
	}
	return body
}

func text(turn *Turn) string {
	if turn.Text == nil {
		return ""
	}
	return *turn.Text
}

// Connected tells that a connection had to be set up for this request: not the client's own delay.
func (c *Call) Connected(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ns := int64(took)
	c.connect = &ns
	if c.sent == 0 {
		c.ready += ns
	}
}

// MarkSent is called just before the first byte is written; the first call counts.
func (c *Call) MarkSent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent != 0 {
		return
	}
	c.sent = Now()
	c.limit.Reset(c.firstLimit())
	c.report.markSent(c.RequestID, c.sent)
}

// Chunk tells that a piece of the answer that carries content came at this time.
func (c *Call) Chunk(text string, at int64) {
	if len(c.chunks) == 0 {
		c.limit.Reset(seconds(c.Hello.Timeouts.TotalS) - time.Duration(Now()-c.sentOrBegan()))
	}
	c.chunks = append(c.chunks, at)
	c.report.chunk()
	if len(c.Session.Turns) > 1 {
		c.texts.WriteString(text)
	}
}

func (c *Call) firstLimit() time.Duration {
	if c.Stage.Streaming {
		return seconds(min(c.Hello.Timeouts.FirstTokenS, c.Hello.Timeouts.TotalS))
	}
	return seconds(c.Hello.Timeouts.TotalS)
}

func (c *Call) sentOrBegan() int64 {
	if c.sent == 0 {
		return c.began
	}
	return c.sent
}

func (c *Call) answer() string {
	if c.Stage.Streaming {
		return c.texts.String()
	}
	return c.Text
}

var errTimeout = errors.New("time limit")

// run sends the call under the user's time limits. The failure is nil for a good answer; an error is a bug.
func (c *Call) run(ctx context.Context, send func(context.Context, *Call) error) (*Failure, error) {
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.limit = time.AfterFunc(c.firstLimit()+seconds(c.Hello.Timeouts.ConnectS), func() { cancel(errTimeout) })
	defer c.limit.Stop()
	err := send(limited, c)
	var failure *Failure
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(context.Cause(limited), errTimeout):
		return c.timedOut(), nil
	case errors.As(err, &failure):
		return failure, nil
	case err != nil:
		return nil, err
	case c.Stage.Streaming && len(c.chunks) == 0:
		return Fail("no_content", "the stream carried no content"), nil
	}
	return nil, nil
}

func (c *Call) timedOut() *Failure {
	limits := c.Hello.Timeouts
	if c.Stage.Streaming && len(c.chunks) == 0 && limits.FirstTokenS < limits.TotalS {
		return Fail("timeout_first_token", "no content within %g s", limits.FirstTokenS)
	}
	return Fail("timeout_total", "no end within %g s", limits.TotalS)
}

func (c *Call) row(status string, failure *Failure) row {
	end := Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	sent := c.sentOrBegan()
	r := row{
		RequestID: c.RequestID, Status: status, Sent: sent, End: end, Ready: c.ready, Connect: c.connect,
		InputTokens: c.InputTokens, OutputTokens: c.OutputTokens, CachedTokens: c.CachedTokens,
		FinishReason: c.FinishReason, HTTPStatus: c.HTTPStatus,
	}
	if n := len(c.chunks); n > 0 {
		r.FirstToken, r.LastToken = c.chunks[0], c.chunks[n-1]
		r.ChunkTimes = make([]int64, n)
		for i, at := range c.chunks {
			r.ChunkTimes[i] = (at - sent) / 1000
		}
		if len(c.ChunkTokens) == n {
			r.ChunkTokens = c.ChunkTokens
		}
	}
	if r.InputTokens != nil {
		r.InputSource = "usage"
	}
	if r.OutputTokens != nil {
		r.OutputSource = "usage"
	} else if n := int64(len(c.chunks)); n > 0 && status == "ok" {
		r.OutputTokens, r.OutputSource = &n, "chunks"
	}
	if failure != nil {
		r.ErrorClass, r.Error = failure.Class, clip(failure.Message, 300)
	}
	return r
}
