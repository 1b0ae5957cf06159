package loadgen

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
)

// Info is what a generator says of itself.
type Info struct {
	Name, Version string
	Capabilities  []string
}

// Generator is yours to write. Send does one request; the kit calls it when the schedule and the concurrency say so,
// each call in a goroutine of its own.
type Generator interface {
	Info() Info
	// Open is called once, before anything else.
	Open(hello *Hello) error
	// Prepare is called before each stage: open about so many connections, so that set-up is not part of the load.
	Prepare(connections int)
	// Send sends call.Body() to the URL and call.Path(), and returns when the answer is complete: nil, or a *Failure;
	// any other error is a bug and ends the run. It returns early when ctx is done.
	Send(ctx context.Context, call *Call) error
	Close()
}

// Serve speaks the protocol on stdin and stdout until the tool says quit. stdout is the protocol's alone: log to stderr.
func Serve(generator Generator) error { return serve(generator, os.Stdin, os.Stdout) }

// ErrToolGone is returned when stdin ended before quit: nobody wants this load any more.
var ErrToolGone = errors.New("the tool is gone")

func serve(generator Generator, in io.Reader, out io.Writer) error {
	say := sayer(out)
	orders, gone := make(chan []byte), make(chan struct{})
	go read(in, orders, gone)
	var hello *Hello
	var current *stageLoad
	var ended chan error
	for {
		select {
		case <-gone:
			return ErrToolGone
		case err := <-ended:
			current, ended = nil, nil
			if err != nil {
				return fail(say, "%w", err)
			}
		case line := <-orders:
			var o order
			if err := json.Unmarshal(line, &o); err != nil {
				return fail(say, "a message cannot be understood: %v", err)
			}
			switch o.Type {
			case "hello":
				hello = &Hello{}
				if err := greet(generator, line, hello, say); err != nil {
					return err
				}
			case "stage":
				if current != nil { // its stage_end is on its way out
					if err := <-ended; err != nil {
						return fail(say, "%v", err)
					}
				}
				stage := &Stage{}
				if err := json.Unmarshal(line, stage); err != nil || hello == nil {
					return fail(say, "a stage cannot be understood: %v", err)
				}
				load, done := newStageLoad(stage, hello, generator.Send, say), make(chan error, 1)
				current, ended = load, done
				go func() {
					generator.Prepare(load.connections())
					done <- load.run()
				}()
			case "quit":
				generator.Close()
				say(map[string]any{"type": "done"})
				return nil
			case "stop":
				if current != nil {
					current.stop()
				}
			default:
				if current == nil || current.stage.Stage != o.Stage {
					continue // for a stage that is over, or of a later version
				}
				if o.Type == "schedule" {
					current.feed(o.Sessions, o.Last)
				} else if o.Type == "start" {
					current.begin <- o.At
				}
			}
		}
	}
}

func greet(generator Generator, line []byte, hello *Hello, say func(any)) error {
	if err := json.Unmarshal(line, hello); err != nil {
		return fail(say, "hello cannot be understood: %v", err)
	}
	if hello.Protocol != Protocol {
		return fail(say, "the tool speaks %q, this generator %q", hello.Protocol, Protocol)
	}
	if headers := os.Getenv(hello.Endpoint.HeadersEnv); headers != "" {
		if err := json.Unmarshal([]byte(headers), &hello.Headers); err != nil {
			return fail(say, "the headers are not a JSON object")
		}
	}
	if err := generator.Open(hello); err != nil {
		return fail(say, "%v", err)
	}
	info := generator.Info()
	say(map[string]any{
		"type": "ready", "protocol": Protocol, "name": info.Name, "version": info.Version,
		"capabilities": info.Capabilities, "cores": runtime.GOMAXPROCS(0),
	})
	return nil
}

func fail(say func(any), format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	say(map[string]any{"type": "error", "message": clip(err.Error(), 2000)})
	return err
}

// clip gives so many characters at most: the tool refuses a longer text, whatever it says.
func clip(text string, most int) string {
	runes := []rune(text)
	return string(runes[:min(len(runes), most)])
}

func read(in io.Reader, orders chan<- []byte, gone chan<- struct{}) {
	defer close(gone)
	lines := bufio.NewReaderSize(in, 1<<16)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		orders <- line
	}
}

// sayer writes one message a line, from any goroutine.
func sayer(out io.Writer) func(any) {
	var mu sync.Mutex
	encoder := json.NewEncoder(out)
	return func(message any) {
		mu.Lock()
		defer mu.Unlock()
		_ = encoder.Encode(message) // a tool that is gone shows at the end of stdin
	}
}
