// Package loadgen lets you write a load generator for llm-d-benchmark in Go:
// implement [Generator] and call [Serve]. It needs nothing but the standard library.
package loadgen

import (
	"encoding/json"
	"time"
)

// Protocol is the version this kit speaks.
const Protocol = "llm-d-benchmark.loadgen/1"

// AllCapabilities is everything Serve drives; leave out what your Send cannot do. Retries are not part of the kit.
var AllCapabilities = []string{
	"chat", "completions", "token_ids", "open_loop", "closed_loop", "streaming", "non_streaming", "conversations", "tls",
}

// Hello is what holds for the whole run.
type Hello struct {
	Protocol string `json:"protocol"`
	Endpoint struct {
		URL        string  `json:"url"`
		Model      *string `json:"model"`
		HeadersEnv string  `json:"headers_env"`
		TLS        struct {
			Verify bool    `json:"verify"`
			CAFile *string `json:"ca_file"`
		} `json:"tls"`
	} `json:"endpoint"`
	Parameters map[string]json.RawMessage `json:"parameters"`
	Timeouts   struct {
		ConnectS    float64 `json:"connect_s"`
		FirstTokenS float64 `json:"first_token_s"`
		TotalS      float64 `json:"total_s"`
	} `json:"timeouts"`
	Config map[string]json.RawMessage `json:"config"`
	// Headers to send with every request, secrets in the clear: never log them.
	Headers map[string]string `json:"-"`
}

// Stage is one piece of load; Concurrency is this generator's own share of it.
type Stage struct {
	Stage       int      `json:"stage"`
	Name        string   `json:"name"`
	Endpoint    string   `json:"endpoint"`
	Streaming   bool     `json:"streaming"`
	OpenLoop    bool     `json:"open_loop"`
	Concurrency *int     `json:"concurrency"`
	Rate        *float64 `json:"rate"`
	RampS       float64  `json:"ramp_s"`
	LoadS       *float64 `json:"load_s"`
	DrainS      float64  `json:"drain_s"`
}

// Turn is one request: exactly one of Text, TokenIDs and Messages is there.
type Turn struct {
	Text        *string                    `json:"text"`
	TokenIDs    []int                      `json:"token_ids"`
	Messages    []json.RawMessage          `json:"messages"`
	OutputAsked *int                       `json:"output_asked"`
	ThinkS      float64                    `json:"think_s"`
	Params      map[string]json.RawMessage `json:"params"`
}

// Session is turns that follow one another; turn t has the request id RequestID + t.
type Session struct {
	Session   int64  `json:"session"`
	RequestID int64  `json:"request_id"`
	Model     string `json:"model"`
	Turns     []Turn `json:"turns"`
	OffsetNS  *int64 `json:"offset_ns"`
}

type order struct {
	Type     string    `json:"type"`
	Stage    int       `json:"stage"`
	Sessions []Session `json:"sessions"`
	Last     bool      `json:"last"`
	At       int64     `json:"at"`
}

// row is the record of one request, in the protocol's columns.
type row struct {
	RequestID    int64   `json:"request_id"`
	Status       string  `json:"status"`
	Sent         int64   `json:"sent"`
	End          int64   `json:"end"`
	Ready        int64   `json:"ready"`
	FirstToken   int64   `json:"first_token,omitempty"`
	LastToken    int64   `json:"last_token,omitempty"`
	Connect      *int64  `json:"connect,omitempty"`
	ChunkTimes   []int64 `json:"chunk_times,omitempty"`
	ChunkTokens  []int64 `json:"chunk_tokens,omitempty"`
	InputTokens  *int64  `json:"input_tokens,omitempty"`
	InputSource  string  `json:"input_source,omitempty"`
	OutputTokens *int64  `json:"output_tokens,omitempty"`
	OutputSource string  `json:"output_source,omitempty"`
	CachedTokens *int64  `json:"cached_tokens,omitempty"`
	FinishReason string  `json:"finish_reason,omitempty"`
	ErrorClass   string  `json:"error_class,omitempty"`
	Error        string  `json:"error,omitempty"`
	HTTPStatus   int     `json:"http_status,omitempty"`
}

var began = time.Now()

// Now is epoch nanoseconds that never jump: the monotonic clock, set once.
func Now() int64 { return began.UnixNano() + int64(time.Since(began)) }

func until(at int64) time.Duration { return time.Duration(max(0, at-Now())) }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
