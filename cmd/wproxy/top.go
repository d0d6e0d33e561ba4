package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"wproxy/core/config"
)

const (
	topEvery = time.Second // between two pictures
	topRows  = 15          // of each table: a picture has to fit a screen
)

// runTop is `wproxy top`.
func runTop(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := newFlags("top", `Usage: wproxy top [-c FILE | --to ADDRESS | --socket PATH] [--once]

Shows what the running wproxy is doing, each second anew, until it is interrupted:
what the page shows, on a terminal. Rates and quantiles are over the last minute, or
since the command was started. Where stdout is no terminal it is told once.`, stderr)
	find := clientFlags(fs)
	once := fs.Bool("once", false, "print one picture, of two seconds, and end")
	if code, done := parseFlags(fs, args, 0, stdout); done {
		return code
	}
	socket, err := find()
	if err != nil {
		return fail(stderr, "top", err)
	}
	screen, _ := stdout.(*terminal)
	if screen == nil || !isTerminal(screen.w) {
		*once = true
	}
	t := time.NewTicker(topEvery)
	defer t.Stop()
	for picture := 0; ; picture++ {
		body, err := call(ctx, socket, http.MethodGet, "/live", questionTime)
		var l Live
		if err == nil {
			err = json.Unmarshal(body, &l)
		}
		if err != nil {
			return fail(stderr, "top", err)
		}
		switch {
		case !*once:
			screen.clear()
			fallthrough
		case picture == 2: // rates need some time
			var b bytes.Buffer
			l.print(&b)
			_, _ = stdout.Write(b.Bytes()) // nobody left to tell
		}
		if *once && picture == 2 {
			return exitOK
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return exitOK
		}
	}
}

// print writes l for people.
func (l *Live) print(w io.Writer) {
	st := l.Status
	fmt.Fprintf(w, "wproxy %s  up %s  generation %d  %s  %s\n", st.Version, shortAge(l.Now.Sub(st.Started)), st.Generation, st.ConfigHash, l.Now.Format("15:04:05"))
	fmt.Fprintln(w, l.verdict())
	if r := st.LastReload; r != nil && !r.OK {
		fmt.Fprintln(w, "the last reload was refused: "+firstLine(r.Error))
	}
	if n := len(l.Points); n > 0 {
		p := l.Points[n-1]
		if p.Seconds < 2 && n > 1 {
			p = l.Points[n-2] // has more to say
		}
		s := max(p.Seconds, 1)
		fmt.Fprintf(w, "%s requests/s  p50 %s  p99 %s  errors/s: proxy %s, upstream %s, client %s\n", shortNumber(float64(p.Requests)/s),
			shortTime(p.P50), shortTime(p.P99), shortNumber(float64(p.Proxy)/s), shortNumber(float64(p.Upstream)/s), shortNumber(float64(p.Client)/s))
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(cells ...any) { fmt.Fprintln(tw, strings.Join(texts(cells), "\t")) }
	l.printServers(row)
	l.printRoutes(row)
	l.printPlugins(row)
	_ = tw.Flush() // into memory
	l.printRequests(w)
}

// verdict says in one line whether somebody has to look.
func (l *Live) verdict() string {
	switch n := l.Servers; {
	case !l.Status.Ready:
		return "NOT READY: " + strings.Join(l.Status.NotReady, "; ")
	case n.Down > 0:
		return fmt.Sprintf("%d OF %d SERVERS DOWN", n.Down, n.Total)
	case len(l.Failing) > 0:
		return fmt.Sprintf("TRIES FAIL AT %d OF %d SERVERS", len(l.Failing), n.Total)
	default:
		return fmt.Sprintf("ready, %d servers: %d up, %d drained", n.Total, n.Up, n.Drained)
	}
}

// moreRows tells how many rows are not shown.
func moreRows(row func(...any), n int) {
	if n > topRows {
		row(fmt.Sprintf("(%d more)", n-topRows))
	}
}

func (l *Live) printServers(row func(...any)) {
	type server struct {
		upstream string
		ServerStatus
		failing uint64
	}
	var all []server
	for _, u := range l.Status.Upstreams {
		for _, s := range u.Servers {
			all = append(all, server{u.Name, s, l.Failing[u.Name+"/"+s.Address]})
		}
	}
	slices.SortStableFunc(all, func(a, b server) int {
		return cmp.Or(cmp.Compare(rank(a.State), rank(b.State)), cmp.Compare(b.failing, a.failing), cmp.Compare(b.Active, a.Active))
	})
	row()
	row("UPSTREAM", "SERVER", "STATE", "ACTIVE", "FAILED")
	for i := range all[:min(len(all), topRows)] {
		s := &all[i]
		failed := fmt.Sprint(s.Failures)
		if s.failing > 0 {
			failed += fmt.Sprintf(" (+%d)", s.failing)
		}
		row(s.upstream, s.Address, s.state(), s.Active, failed)
	}
	moreRows(row, len(all)+l.Cut["servers"])
}

func (l *Live) printRoutes(row func(...any)) {
	slices.SortStableFunc(l.Routes, func(a, b LiveRoute) int { return cmp.Compare(b.Rate, a.Rate) })
	row()
	row("ROUTE", "REQUESTS/S", "P50", "P99", "4XX/S", "5XX/S", "TOTAL")
	shown := 0
	for _, r := range l.Routes {
		if r.Name == "" && r.Total == 0 {
			continue
		}
		if shown++; shown > topRows {
			continue
		}
		row(cmp.Or(r.Name, "(none matched)"), shortNumber(r.Rate), shortTime(r.P50), shortTime(r.P99), shortNumber(r.Rate4xx), shortNumber(r.Rate5xx), r.Total)
	}
	moreRows(row, shown+l.Cut["routes"])
}

func (l *Live) printPlugins(row func(...any)) {
	if len(l.Plugins) == 0 {
		return
	}
	row()
	row("PLUGIN", "INSTANCES", "MEMORY", "HIGH", "LIMIT", "TIME", "TRAPS", "LAST TRAP")
	for i := range l.Plugins[:min(len(l.Plugins), topRows)] {
		p := &l.Plugins[i]
		trap := "-"
		if t := p.LastTrap; t != nil {
			trap = fmt.Sprintf("%s: %s: %s", shortAge(l.Now.Sub(t.Time)), t.Callback, t.Detail)
			if len(t.Stack) > 0 {
				trap += " in " + t.Stack[0]
			}
		}
		row(p.Name, p.Instances, mebibytes(p.Memory), mebibytes(p.MemoryHigh), mebibytes(p.MemoryMax), fmt.Sprintf("%.0f%%", p.Share*100), p.Traps, trap)
	}
	moreRows(row, len(l.Plugins)+l.Cut["plugins"])
}

// printRequests writes the last notable requests, the newest first.
func (l *Live) printRequests(w io.Writer) {
	if len(l.Requests) == 0 {
		return
	}
	fmt.Fprintln(w, "\nNOTABLE REQUESTS")
	const most, longest = 8, 60
	for i := len(l.Requests) - 1; i >= max(0, len(l.Requests)-most); i-- {
		var line struct {
			recordedLine
			Time    time.Time `json:"ts"`
			Status  int       `json:"status"`
			Reason  string    `json:"reason"`
			Retried []string  `json:"retried"`
			Server  string    `json:"server"`
			Took    float64   `json:"t_total"`
		}
		if json.Unmarshal(l.Requests[i].Log, &line) != nil {
			continue
		}
		target := line.Host + line.Path
		if len(target) > longest {
			target = strings.ToValidUTF8(target[:longest], "") + "…"
		}
		fmt.Fprintf(w, "%s  %-8s %d %7s  %s %s  %s\n", line.Time.Local().Format("15:04:05"), l.Requests[i].Kind, line.Status, shortTime(line.Took),
			line.Method, target, strings.Join(append(line.Retried, cmp.Or(line.Reason, line.Server)), " -> "))
	}
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1fMiB", float64(n)/(1<<20)) }

// shortTime writes seconds in few characters; 0 is nothing.
func shortTime(s float64) string {
	switch {
	case s <= 0:
		return "-"
	case s < .001:
		return fmt.Sprintf("%.0fus", s*1e6)
	case s < 1:
		return fmt.Sprintf("%.1fms", s*1e3)
	default:
		return fmt.Sprintf("%.1fs", s)
	}
}

func shortNumber(n float64) string {
	if n == 0 || n >= 100 {
		return fmt.Sprintf("%.0f", n)
	}
	return fmt.Sprintf("%.2f", n)
}

func shortAge(d time.Duration) string { return config.FormatDuration(d.Round(time.Second)) }
