package loadgen

import (
	"context"
	"encoding/json"
	"sync"
	"time"
)

// window is how many sessions are in store: at 1000 requests a second, half a second's worth.
const window = 512

// block is how many sessions are asked for at once.
const block = 64

// pause is how long the place of a refused connection stays empty: a server that is gone must not busy the client.
const pause = 50 * time.Millisecond

// stageLoad runs one stage: it releases sessions when they are due, keeps the concurrency, and accounts for every request.
type stageLoad struct {
	stage  *Stage
	hello  *Hello
	send   func(context.Context, *Call) error
	say    func(any)
	report *report

	store   chan Session // closed when the schedule is exhausted
	begin   chan int64
	stopped chan struct{} // closed by stop, or by a bug
	over    chan struct{} // closed when the load is over: nothing more is released
	free    chan int64    // free places, since when each is free; nil without a cap

	sessions sync.WaitGroup
	follow   sync.WaitGroup // sessions with turns still to send
	once     sync.Once
	bug      error
}

func newStageLoad(stage *Stage, hello *Hello, send func(context.Context, *Call) error, say func(any)) *stageLoad {
	s := &stageLoad{
		stage: stage, hello: hello, send: send, say: say, report: &report{say: say},
		store: make(chan Session, window), begin: make(chan int64, 1), stopped: make(chan struct{}), over: make(chan struct{}),
	}
	if stage.Concurrency != nil {
		s.free = make(chan int64, *stage.Concurrency)
	}
	return s
}

// connections is how many to have open before the load: one a stream, or a second's worth of an open loop, at most 256.
func (s *stageLoad) connections() int {
	n := 256
	if s.stage.Concurrency != nil {
		n = *s.stage.Concurrency
	}
	if s.stage.Rate != nil {
		n = min(n, max(1, int(*s.stage.Rate)))
	}
	return n
}

// feed never blocks: the tool sends no more than it has credit for.
func (s *stageLoad) feed(sessions []Session, last bool) {
	for _, session := range sessions {
		s.store <- session
	}
	if last {
		close(s.store)
	}
}

func (s *stageLoad) stop() { s.once.Do(func() { close(s.stopped) }) }

func (s *stageLoad) run() error {
	number := s.stage.Stage
	s.say(map[string]any{"type": "credit", "stage": number, "sessions": window})
	s.say(map[string]any{"type": "stage_ready", "stage": number})
	var start int64
	select {
	case start = <-s.begin:
	case <-s.stopped:
		s.end(Now(), "interrupted")
		return nil
	}
	reporting, reported := make(chan struct{}), make(chan struct{})
	go func() { s.report.run(reporting); close(reported) }()
	ctx, cancel := context.WithCancel(context.Background())
	reason := s.load(ctx, start)
	loadEnd := Now()
	close(s.over)
	s.drain(cancel)
	close(reporting)
	<-reported
	if s.bug != nil {
		return s.bug
	}
	s.end(loadEnd, reason)
	return nil
}

func (s *stageLoad) end(loadEnd int64, reason string) {
	s.say(map[string]any{"type": "stage_end", "stage": s.stage.Stage, "load_end": loadEnd, "end": Now(), "reason": reason})
}

// load releases until the end of the load, and says why it ended.
func (s *stageLoad) load(ctx context.Context, start int64) string {
	var timeUp <-chan time.Time
	if s.stage.LoadS != nil {
		timeUp = time.After(until(start) + seconds(*s.stage.LoadS))
	}
	released, quit := make(chan struct{}), make(chan struct{})
	go s.places(start, quit)
	go s.release(ctx, start, quit, released)
	select {
	case <-released:
		return "exhausted"
	case <-s.stopped:
		close(quit)
		<-released
		return "interrupted"
	case <-timeUp:
		close(quit)
		<-released
		return "duration"
	}
}

// places puts up the streams of a closed loop or of a capped open one, over RampS seconds.
func (s *stageLoad) places(start int64, quit <-chan struct{}) {
	if s.free == nil {
		return
	}
	ramp := int64(seconds(s.stage.RampS))
	if s.stage.OpenLoop {
		ramp = 0
	}
	count := int64(cap(s.free))
	for k := int64(0); k < count; k++ {
		at := start + ramp*k/count
		if !sleepUntil(at, quit) {
			return
		}
		s.free <- at
	}
}

// release starts sessions when they are due; released is closed when there will be no more requests.
func (s *stageLoad) release(ctx context.Context, start int64, quit <-chan struct{}, released chan<- struct{}) {
	defer close(released)
	if !sleepUntil(start, quit) {
		return
	}
	for taken := 1; ; taken++ {
		var session Session
		var more bool
		select {
		case session, more = <-s.store:
		case <-quit:
			return
		}
		if !more {
			break
		}
		ready := start
		if session.OffsetNS != nil {
			if s.stage.LoadS != nil && *session.OffsetNS >= int64(seconds(*s.stage.LoadS)) {
				<-quit // the rest lies behind the end of the load
				return
			}
			ready = start + *session.OffsetNS
			if !sleepUntil(ready, quit) {
				return
			}
		}
		if s.free != nil {
			select {
			case since := <-s.free:
				ready = max(ready, since)
			case <-quit:
				return
			}
		}
		if taken%block == 0 {
			s.say(map[string]any{"type": "credit", "stage": s.stage.Stage, "sessions": block})
		}
		s.sessions.Add(1)
		if len(session.Turns) > 1 {
			s.follow.Add(1)
		}
		go s.session(ctx, &session, ready)
	}
	followed := make(chan struct{})
	go func() { s.follow.Wait(); close(followed) }()
	select {
	case <-followed:
	case <-quit:
	}
}

// drain waits for what is in flight, for DrainS seconds at most, then cancels it; at once when stopped.
func (s *stageLoad) drain(cancel func()) {
	done := make(chan struct{})
	go func() { s.sessions.Wait(); close(done) }()
	select {
	case <-done:
	case <-s.stopped:
	case <-time.After(seconds(s.stage.DrainS)):
	}
	cancel()
	<-done
}

func (s *stageLoad) session(ctx context.Context, session *Session, ready int64) {
	defer s.sessions.Done()
	following := len(session.Turns) > 1
	var wait time.Duration
	var history []json.RawMessage
	said := ""
	for number := range session.Turns {
		turn := &session.Turns[number]
		if number > 0 {
			ready = Now() + int64(seconds(turn.ThinkS))
			if !sleepUntil(ready, s.over) {
				break
			}
			if number+1 == len(session.Turns) {
				following = false
				s.follow.Done()
			}
		}
		call := &Call{
			Hello: s.hello, Stage: s.stage, Session: session, Turn: turn, RequestID: session.RequestID + int64(number),
			history: history, said: said, report: s.report, began: Now(), ready: ready,
		}
		failure, ok := s.one(ctx, call)
		if failure != nil && (failure.Class == "connect" || failure.Class == "tls") {
			wait = pause
		}
		if !ok {
			break
		}
		if s.stage.Endpoint == "chat" {
			reply, _ := json.Marshal(map[string]string{"role": "assistant", "content": call.answer()})
			history = append(append(append([]json.RawMessage{}, history...), turn.Messages...), reply)
		} else {
			said += text(turn) + call.answer()
		}
	}
	if following {
		s.follow.Done()
	}
	if s.free != nil {
		if wait > 0 {
			time.AfterFunc(wait, func() { s.free <- Now() })
		} else {
			s.free <- Now()
		}
	}
}

// one sends a request and reports it; whether it was answered well.
func (s *stageLoad) one(ctx context.Context, call *Call) (*Failure, bool) {
	failure, err := call.run(ctx, s.send)
	switch {
	case err != nil:
		if ctx.Err() == nil {
			s.once.Do(func() { s.bug = err; close(s.stopped) })
		}
		s.report.add(call.row("cancelled", nil))
	case failure != nil:
		s.report.add(call.row("failed", failure))
	default:
		s.report.add(call.row("ok", nil))
		return nil, true
	}
	return failure, false
}

// sleepUntil sleeps until this epoch time; false where quit was closed first.
func sleepUntil(at int64, quit <-chan struct{}) bool {
	select {
	case <-quit:
		return false
	default:
	}
	left := until(at)
	if left == 0 {
		return true
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-quit:
		return false
	}
}
