package loadgen

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// report collects what a stage tells the tool, and tells it in batches.
type report struct {
	say    func(any)
	chunks atomic.Int64

	mu    sync.Mutex
	ids   []int64
	times []int64
	rows  []row
}

type lag struct {
	P50   float64 `json:"p50_us"`
	P99   float64 `json:"p99_us"`
	Max   float64 `json:"max_us"`
	Ticks int     `json:"ticks"`
}

func (r *report) chunk() { r.chunks.Add(1) }

func (r *report) markSent(id, at int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids, r.times = append(r.ids, id), append(r.times, at)
}

func (r *report) add(one row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, one)
}

// flush tells what was sent before what has ended: both are taken at once.
func (r *report) flush() {
	r.mu.Lock()
	ids, times, rows := r.ids, r.times, r.rows
	r.ids, r.times, r.rows = nil, nil, nil
	r.mu.Unlock()
	if len(ids) > 0 {
		r.say(map[string]any{"type": "sent", "requests": ids, "times": times})
	}
	if len(rows) > 0 {
		r.say(map[string]any{"type": "records", "rows": rows})
	}
}

func (r *report) progress(lags []float64) {
	message := map[string]any{"type": "progress", "chunks": r.chunks.Swap(0)}
	if n := len(lags); n > 0 {
		slices.Sort(lags)
		message["lag"] = lag{lags[n/2], lags[n*99/100], lags[n-1], n}
	}
	r.say(message)
}

// run sees every 10 ms how late timers are, tells every 100 ms of requests and every second of progress, until done.
func (r *report) run(done <-chan struct{}) {
	const tick = 10 * time.Millisecond
	var lags []float64
	flushed, progressed := time.Now(), time.Now()
	for {
		due := time.Now().Add(tick)
		select {
		case <-done:
			r.flush()
			r.progress(lags)
			return
		case <-time.After(tick):
		}
		now := time.Now()
		lags = append(lags, float64(now.Sub(due))/1e3)
		if now.Sub(flushed) >= 100*time.Millisecond {
			flushed = now
			r.flush()
		}
		if now.Sub(progressed) >= time.Second {
			progressed = now
			r.progress(lags)
			lags = nil
		}
	}
}
