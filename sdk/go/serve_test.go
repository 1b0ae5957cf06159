package loadgen

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// fake answers every request at once, or never.
type fake struct{ never bool }

func (*fake) Info() Info        { return Info{"fake", "1", AllCapabilities} }
func (*fake) Open(*Hello) error { return nil }
func (*fake) Prepare(int)       {}
func (*fake) Close()            {}

func (f *fake) Send(ctx context.Context, call *Call) error {
	call.MarkSent()
	if f.never {
		<-ctx.Done()
		return ctx.Err()
	}
	call.Chunk("hi", Now())
	call.HTTPStatus, call.FinishReason = 200, "stop"
	return nil
}

type line struct {
	Type     string
	Message  string
	Reason   string
	Sessions int
	Rows     []row
}

// tool is the other side of serve.
type tool struct {
	t    *testing.T
	in   io.WriteCloser
	out  *bufio.Reader
	done chan error
}

func start(t *testing.T, generator Generator) *tool {
	inRead, inWrite := io.Pipe()
	outRead, outWrite := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- serve(generator, inRead, outWrite); outWrite.Close() }()
	return &tool{t, inWrite, bufio.NewReader(outRead), done}
}

func (tool *tool) say(text string) {
	if _, err := io.WriteString(tool.in, text+"\n"); err != nil {
		tool.t.Fatal(err)
	}
}

// until reads up to a message of this type, and gives it with all rows on the way.
func (tool *tool) until(kind string) (line, []row) {
	var rows []row
	for {
		text, err := tool.out.ReadBytes('\n')
		if err != nil {
			tool.t.Fatalf("no %s: %v", kind, err)
		}
		var one line
		if err := json.Unmarshal(text, &one); err != nil {
			tool.t.Fatal(err)
		}
		rows = append(rows, one.Rows...)
		if one.Type == kind {
			return one, rows
		}
	}
}

const hello = `{"type":"hello","protocol":"llm-d-benchmark.loadgen/1","later":1,"endpoint":{"url":"http://x","model":"m",` +
	`"headers_env":"NONE","tls":{"verify":true,"ca_file":null}},"parameters":{"seed":1152921504606846977},` +
	`"timeouts":{"connect_s":1,"first_token_s":1,"total_s":1},"config":{}}`

func stage(more string) string {
	return `{"type":"stage","stage":0,"name":"s","endpoint":"chat","streaming":true,"ramp_s":0,"drain_s":1,` + more + `}`
}

const sessions = `[{"session":0,"request_id":0,"model":"m","turns":[{"messages":[{"role":"user","content":"a"}]}]},` +
	`{"session":1,"request_id":1,"model":"m","turns":[{"messages":[{"role":"user","content":"b"}]}]}]`

func TestEveryRequestIsReportedOnce(t *testing.T) {
	tool := start(t, &fake{})
	tool.say(hello)
	tool.until("ready")
	tool.say(stage(`"concurrency":1`))
	credit, _ := tool.until("credit")
	if credit.Sessions != window {
		t.Errorf("credit for %d sessions", credit.Sessions)
	}
	tool.until("stage_ready")
	tool.say(`{"type":"schedule","stage":0,"sessions":` + sessions + `,"last":true}`)
	tool.say(`{"type":"start","stage":0,"at":1}`)
	end, rows := tool.until("stage_end")
	if end.Reason != "exhausted" || len(rows) != 2 {
		t.Fatalf("%s, %d rows", end.Reason, len(rows))
	}
	for _, r := range rows {
		if r.Status != "ok" || r.Sent < r.Ready || r.FirstToken < r.Sent || r.End < r.LastToken || *r.OutputTokens != 1 {
			t.Errorf("%+v", r)
		}
	}
	tool.say(`{"type":"quit"}`)
	tool.until("done")
	if err := <-tool.done; err != nil {
		t.Error(err)
	}
}

func TestStopCancelsWhatIsInFlight(t *testing.T) {
	tool := start(t, &fake{never: true})
	tool.say(hello)
	tool.until("ready")
	tool.say(stage(`"concurrency":2`))
	tool.until("stage_ready")
	tool.say(`{"type":"schedule","stage":0,"sessions":` + sessions + `,"last":false}`)
	tool.say(`{"type":"start","stage":0,"at":1}`)
	tool.until("sent")
	began := time.Now()
	tool.say(`{"type":"stop"}`)
	end, rows := tool.until("stage_end")
	if end.Reason != "interrupted" || len(rows) != 2 || rows[0].Status != "cancelled" || time.Since(began) > time.Second {
		t.Errorf("%s after %v: %+v", end.Reason, time.Since(began), rows)
	}
}

func TestTimeLimit(t *testing.T) {
	tool := start(t, &fake{never: true})
	tool.say(strings.Replace(hello, `"first_token_s":1,`, `"first_token_s":0.1,`, 1))
	tool.until("ready")
	tool.say(stage(`"concurrency":2`))
	tool.until("stage_ready")
	tool.say(`{"type":"schedule","stage":0,"sessions":` + sessions + `,"last":true}`)
	tool.say(`{"type":"start","stage":0,"at":1}`)
	_, rows := tool.until("stage_end")
	if len(rows) != 2 || rows[0].ErrorClass != "timeout_first_token" {
		t.Errorf("%+v", rows)
	}
}

func TestAnotherProtocolIsRefused(t *testing.T) {
	tool := start(t, &fake{})
	tool.say(strings.Replace(hello, "loadgen/1", "loadgen/2", 1))
	refusal, _ := tool.until("error")
	if !strings.Contains(refusal.Message, "loadgen/2") {
		t.Error(refusal.Message)
	}
}

type closed struct{ fake }

func (*closed) Open(*Hello) error { return errors.New(strings.Repeat("ä", 5000)) }

func TestALongErrorIsCut(t *testing.T) {
	tool := start(t, &closed{})
	tool.say(hello)
	refusal, _ := tool.until("error")
	if refusal.Message != strings.Repeat("ä", 2000) {
		t.Error(len(refusal.Message))
	}
}

func TestTheEndOfStdinEndsIt(t *testing.T) {
	tool := start(t, &fake{})
	tool.in.Close()
	if err := <-tool.done; err != ErrToolGone {
		t.Error(err)
	}
}

func TestBodyKeepsNumbersAsTheyAre(t *testing.T) {
	h := &Hello{}
	if err := json.Unmarshal([]byte(hello), h); err != nil {
		t.Fatal(err)
	}
	var all []Session
	if err := json.Unmarshal([]byte(sessions), &all); err != nil {
		t.Fatal(err)
	}
	call := &Call{Hello: h, Stage: &Stage{Endpoint: "chat", Streaming: true}, Session: &all[0], Turn: &all[0].Turns[0]}
	want := `{"messages":[{"role":"user","content":"a"}],"model":"m","seed":1152921504606846977,"stream":true,` +
		`"stream_options":{"include_usage":true}}`
	if got := string(call.Body()); got != want {
		t.Error(got)
	}
}
