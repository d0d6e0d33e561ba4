package main

import (
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdReadme runs the console blocks of a Markdown file, or of the section of it that has
// this heading, in the script's directory: a line that begins with "$ " is a command for
// sh, what follows is what it prints, where a line "..." stands for any lines. A block
// whose first line names a file after its language (```toml wproxy.toml) makes that
// file. Addresses of the README, which are those of wproxy.toml, become those of the wproxy
// that runs. With -start, blocks for other terminals (```sh) are run, too, as far as they are
// "wproxy run ...": the next command comes when it serves.
func cmdReadme(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 1)
	start := args[0] == "-start"
	if start {
		args = args[1:]
	}
	replace := strings.NewReplacer("127.0.0.1:8080", ts.Getenv("HTTP_ADDR"), "127.0.0.1:9901", ts.Getenv("ADMIN_ADDR"),
		"./bin/wproxy", "wproxy")
	text := ts.ReadFile(args[0])
	if len(args) > 1 {
		text = markdownSection(text, args[1])
	}
	ran := 0
	for _, block := range markdownBlocks(text) {
		ran++
		if block.file != "" {
			ts.Check(os.WriteFile(ts.MkAbs(block.file), []byte(block.output), 0o600))
			continue
		}
		if block.terminal {
			if rest, ok := strings.CutPrefix(block.command, "wproxy run"); ok && start {
				startTerminal(ts, strings.Fields(rest))
			}
			continue
		}
		if dir, ok := strings.CutPrefix(block.command, "cd "); ok {
			ts.Check(ts.Chdir(dir))
			continue
		}
		command, want := replace.Replace(block.command), replace.Replace(block.output)
		deadline := time.Now().Add(patience)
		for {
			err := ts.Exec("sh", "-c", command+" 2>&1")
			got := ts.ReadFile("stdout")
			if (err != nil) == block.fails && matchText(want, got) {
				break
			}
			// An exchange is counted a moment after its answer has arrived.
			if !strings.Contains(command, "/metrics") || time.Now().After(deadline) {
				ts.Fatalf("$ %s\ngot:\n%s\nthe file says:\n%s\n%v", command, got, want, err)
			}
		}
	}
	if ran == 0 {
		ts.Fatalf("%s has no console lines (%v)", args[0], args[1:])
	}
}

// startTerminal runs wproxy with these arguments beside the script, until its end at the
// latest. What it says is in terminal.log.
func startTerminal(ts *testscript.TestScript, args []string) {
	log, err := os.OpenFile(ts.MkAbs("terminal.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	defer log.Close()
	bin := lookPath(ts, "wproxy")
	p := &process{cmd: exec.Command(bin, append([]string{"run"}, args...)...), stderr: log.Name(), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = ts.MkAbs("."), environ(ts), log, log
	ts.Check(p.cmd.Start())
	p.pid = p.cmd.Process.Pid
	go func() { // ends with the process, which ts.Defer ends at the latest
		_ = p.cmd.Wait() // a script that wants its code uses serve
		close(p.ended)
	}()
	ts.Defer(func() { p.finish(ts) })
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { // polling another process
		if st, err := fetchStatus(ts, bin, args); err == nil && st.PID == p.cmd.Process.Pid {
			return
		}
		select {
		case <-p.ended:
			ts.Fatalf("wproxy run %v ended:\n%s", args, ts.ReadFile("terminal.log"))
		default:
		}
		if time.Now().After(deadline) {
			ts.Fatalf("wproxy run %v does not serve", args)
		}
	}
}

// markdownSection returns what is under a heading, up to the next one; "" if there is no
// such heading.
func markdownSection(markdown, heading string) string {
	inside, fenced := false, false
	var b strings.Builder
	for line := range strings.Lines(markdown) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if !fenced && strings.HasPrefix(line, "#") {
			inside = strings.TrimSpace(strings.TrimLeft(line, "#")) == heading
			continue
		}
		if inside {
			b.WriteString(line)
		}
	}
	return b.String()
}

// A markdownBlock is a command and its output, or a file and its content.
type markdownBlock struct {
	command, output string
	fails           bool   // the command is expected to end with a code other than 0
	terminal        bool   // it is for another terminal, and may not end
	file            string // the name of a file, whose content is output
}

// markdownBlocks returns the commands in the ```console blocks of a Markdown
// file, and the blocks that name a file. Blocks that start something and do not end are
// marked ```sh instead.
func markdownBlocks(markdown string) []markdownBlock {
	var blocks []markdownBlock
	console, file, terminal := false, false, false
	for line := range strings.Lines(markdown) {
		switch {
		case strings.HasPrefix(line, "```"):
			open := !console && !file && !terminal
			kind := strings.TrimSpace(line)
			console, terminal, file = open && kind == "```console", open && kind == "```sh", false
			if _, name, named := strings.Cut(strings.TrimSpace(line), " "); open && named {
				file = true
				blocks = append(blocks, markdownBlock{file: name})
			}
		case terminal:
			blocks = append(blocks, markdownBlock{command: strings.TrimSpace(line), terminal: true})
		case file:
			blocks[len(blocks)-1].output += line
		case !console:
		case strings.HasPrefix(line, "$ "):
			command := strings.TrimSpace(line[2:])
			command, fails := strings.CutSuffix(command, "   # exit code 1")
			blocks = append(blocks, markdownBlock{command: command, fails: fails})
		case len(blocks) > 0:
			blocks[len(blocks)-1].output += line
		}
	}
	return blocks
}

// matchText matches a text; see matchLines.
func matchText(pattern, text string) bool {
	return matchLines(strings.Split(strings.TrimSpace(pattern), "\n"), strings.Split(strings.TrimSpace(text), "\n"))
}

// matchLines matches lines against a pattern in which "..." stands for any number of lines,
// and "…" within a line for anything.
func matchLines(pattern, lines []string) bool {
	if len(pattern) == 0 {
		return len(lines) == 0
	}
	if strings.TrimSpace(pattern[0]) == "..." {
		for i := range len(lines) + 1 {
			if matchLines(pattern[1:], lines[i:]) {
				return true
			}
		}
		return false
	}
	return len(lines) > 0 && matchLine(strings.TrimRight(pattern[0], " \r"), strings.TrimRight(lines[0], " \r")) &&
		matchLines(pattern[1:], lines[1:])
}

func matchLine(pattern, line string) bool {
	parts := strings.Split(pattern, "…")
	if len(parts) == 1 {
		return pattern == line
	}
	line, ok := strings.CutPrefix(line, parts[0])
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(line, p)
		if !ok || i < 0 {
			return false
		}
		line = line[i+len(p):]
	}
	return ok && strings.HasSuffix(line, parts[len(parts)-1])
}
