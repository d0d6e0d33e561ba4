package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"wproxy/core/config"
)

// completeVerb is what the scripts of `wproxy completion` ask: for the words of a command
// line after "wproxy", of which the last is the one to be completed, it prints what that
// may be, one a line, with a tab and a few words on it; a line with ":files" stands for
// names of files. All that is known of commands is in one place, and scripts that were
// written once know new commands.
const completeVerb = "__complete"

// filesWanted is the line that stands for names of files.
const filesWanted = ":files"

// runCompletion is `wproxy completion`.
func runCompletion(_ context.Context, args []string, stdout, stderr io.Writer) int {
	fs := newFlags("completion", `Usage: wproxy completion bash|zsh|fish

Prints a script that completes commands, flags, and names from the configuration:

  bash  source <(wproxy completion bash)      in ~/.bashrc
  zsh   source <(wproxy completion zsh)       in ~/.zshrc, after compinit
  fish  wproxy completion fish | source       in ~/.config/fish/config.fish`, stderr)
	if code, done := parseFlags(fs, args, 1, stdout); done {
		return code
	}
	script, ok := completionScripts()[fs.Arg(0)]
	if !ok {
		if name := fs.Arg(0); name != "" {
			fmt.Fprintf(stderr, "wproxy completion: there is no script for %q, but for bash|zsh|fish\n", name)
			return exitFailed
		}
		fs.Usage()
		return exitFailed
	}
	if _, err := io.WriteString(stdout, script); err != nil {
		return fail(stderr, "completion", err)
	}
	return exitOK
}

// runComplete answers the scripts. Whatever is wrong there is nothing to say: somebody is
// in the middle of typing.
func runComplete(ctx context.Context, words []string, stdout io.Writer) int {
	var c completer
	c.complete(ctx, words)
	for _, w := range c.found {
		fmt.Fprintln(stdout, w)
	}
	return exitOK
}

// A completer collects what the last word may be.
type completer struct {
	last  string // what there is of it
	found []string
}

// offer adds a word if it begins as the last one does.
func (c *completer) offer(word, about string) {
	if !strings.HasPrefix(word, c.last) {
		return
	}
	if about != "" {
		word += "\t" + about
	}
	c.found = append(c.found, word)
}

func (c *completer) files() { c.found = append(c.found, filesWanted) }

// complete fills c for the words after "wproxy".
func (c *completer) complete(ctx context.Context, words []string) {
	if len(words) == 0 {
		words = []string{""}
	}
	c.last = words[len(words)-1]
	words = words[:len(words)-1]
	if len(words) == 0 {
		for _, x := range commands() {
			c.offer(x.name, x.short)
		}
		return
	}
	verb, rest := words[0], words[1:]
	if !slices.ContainsFunc(commands(), func(x command) bool { return x.name == verb }) {
		return
	}
	path := []string{verb}
	if subs := subcommands(verb); len(subs) > 0 {
		if len(rest) == 0 {
			for _, s := range subs {
				c.offer(s, "")
			}
			return
		}
		path, rest = append(path, rest[0]), rest[1:]
	}
	flags := flagsOf(ctx, path)
	if strings.HasPrefix(c.last, "-") {
		for _, f := range slices.SortedFunc(maps.Values(flags), func(a, b flagHelp) int { return strings.Compare(a.name, b.name) }) {
			c.offer(f.name, f.about)
		}
		return
	}
	if n := len(rest); n > 0 {
		if f, ok := flags[strings.TrimLeft(rest[n-1], "-")]; ok && strings.HasPrefix(rest[n-1], "-") && f.value != "" {
			c.value(f, words)
			return
		}
	}
	c.argument(verb, plain(rest, flags), words)
}

// subcommands are the first arguments of verb that are commands themselves.
func subcommands(verb string) []string {
	switch verb {
	case "plugin":
		return []string{"new", "build", "test", "inspect", "bench"}
	case "cache":
		return []string{"purge"}
	default:
		return nil
	}
}

// value completes the value of a flag.
func (c *completer) value(f flagHelp, words []string) {
	switch {
	case f.value == "FILE" || f.value == "PATH":
		c.files()
	case f.name == "--listener":
		if conf := configOf(words); conf != nil {
			for _, name := range slices.Sorted(maps.Keys(conf.Listeners)) {
				c.offer(name, conf.Listeners[name].Address)
			}
		}
	}
}

// argument completes a word that is no flag; before are those of its kind before it.
func (c *completer) argument(verb string, before, words []string) {
	switch {
	case verb == "completion" && len(before) == 0:
		for _, shell := range slices.Sorted(maps.Keys(completionScripts())) {
			c.offer(shell, "")
		}
	case verb == "server" && len(before) == 0:
		c.offer("drain", "keep new requests from it")
		c.offer("ready", "let them come again")
	case verb == "server" && len(before) == 1:
		c.servers(configOf(words))
	case verb == "explain" && len(before) == 0:
		for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			c.offer(m, "")
		}
		c.offer(methodTCP, "a connection")
	case verb == "explain" && len(before) == 1:
		c.urls(configOf(words))
	case verb == "diff" && len(before) < 2, verb == "plugin":
		c.files()
	}
}

// servers offers what `wproxy server` takes.
func (c *completer) servers(f *config.File) {
	if f == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(f.Upstreams)) {
		for _, s := range f.Upstreams[name].Servers {
			c.offer(name+"/"+s.Address, "")
		}
	}
}

// urls offers a URL for each route that has a host: what explain may be asked for.
func (c *completer) urls(f *config.File) {
	if f == nil {
		return
	}
	scheme := "http"
	if _, secure := f.SecureListener(); secure > 0 {
		scheme = "https"
	}
	for _, name := range slices.Sorted(maps.Keys(f.Routes)) {
		r := f.Routes[name]
		host, path := "localhost", "/"
		if len(r.Host) > 0 {
			host = strings.Replace(r.Host[0], "*", "www", 1)
		}
		if len(r.Path) > 0 {
			path = strings.TrimSuffix(r.Path[0], "*")
		}
		c.offer(scheme+"://"+host+path, "route "+name)
	}
}

// plain returns the words that are neither flags nor values of flags.
func plain(words []string, flags map[string]flagHelp) []string {
	var list []string
	for i := 0; i < len(words); i++ {
		if !strings.HasPrefix(words[i], "-") {
			list = append(list, words[i])
		} else if f := flags[strings.TrimLeft(words[i], "-")]; f.value != "" {
			i++
		}
	}
	return list
}

// configOf loads the configuration that a command line is about; nil: there is none, or
// it is wrong.
func configOf(words []string) *config.File {
	file := ""
	for i, w := range words {
		if w == "-c" && i+1 < len(words) {
			file = words[i+1]
		}
	}
	src, err := findSource(file, "")
	if err != nil {
		return nil
	}
	f, err := src.load()
	if err != nil {
		return nil
	}
	return f
}

// A flagHelp is a flag as the help of a command shows it.
type flagHelp struct {
	name  string // with its dashes
	value string // what stands for its value; "": it has none
	about string
}

var (
	printedFlag = regexp.MustCompile(`(?m)^  --?(\S+)(?: (\S.*?))?  +(\S.*)$`)
	usageFlag   = regexp.MustCompile(`\[(--?[A-Za-z-]+)(?: ([^]|]+))?`)
)

// flagsOf returns the flags of a command, by name: those that its help text tells of,
// which cannot differ from what it takes.
func flagsOf(ctx context.Context, path []string) map[string]flagHelp {
	var help bytes.Buffer
	run(ctx, append(slices.Clone(path), "--help"), &help, io.Discard)
	flags := map[string]flagHelp{"help": {name: "--help", about: "say what the command is for"}}
	add := func(name, value, about string) {
		dashed := "--" + name
		if len(name) == 1 {
			dashed = "-" + name
		}
		flags[name] = flagHelp{dashed, value, about}
	}
	for _, m := range printedFlag.FindAllStringSubmatch(help.String(), -1) {
		add(m[1], m[2], m[3])
	}
	if len(path) > 1 && path[0] == "plugin" { // they are in its first line alone
		text, _, _ := strings.Cut(help.String(), "\n")
		for _, m := range usageFlag.FindAllStringSubmatch(text, -1) {
			add(strings.TrimLeft(m[1], "-"), m[2], "")
		}
	}
	return flags
}

// completionScripts are the scripts, by shell.
func completionScripts() map[string]string {
	return map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
}

// Bash takes a colon for the end of a word (COMP_WORDBREAKS), and addresses have some: the
// line is taken apart at white space instead, and of what is found the part is left out
// that bash believes to be another word.
const bashCompletion = `# Completion of wproxy for bash: source <(wproxy completion bash)
_wproxy() {
    local line=${COMP_LINE:0:COMP_POINT} words last skip word files=
    read -ra words <<<"$line"
    case $line in *[[:space:]]) words+=("") ;; esac
    last=${words[${#words[@]}-1]}
    skip=${last%"${last##*[:=]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        if [ "$word" = "` + filesWanted + `" ]; then
            files=yes
        else
            COMPREPLY+=("${word#"$skip"}")
        fi
    done < <("${words[0]}" ` + completeVerb + ` "${words[@]:1}" 2>/dev/null)
    if [ -n "$files" ]; then
        while IFS= read -r word; do
            COMPREPLY+=("${word#"$skip"}")
        done < <(compgen -f -- "$last")
        type compopt &>/dev/null && compopt -o filenames 2>/dev/null
    fi
    return 0
}
complete -F _wproxy wproxy
`

const zshCompletion = `#compdef wproxy
# Completion of wproxy for zsh: source <(wproxy completion zsh), after compinit.
_wproxy() {
    local line word about
    local -a names
    for line in "${(@f)$("${words[1]}" ` + completeVerb + ` "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -n $line ]] || continue
        if [[ $line == "` + filesWanted + `" ]]; then
            _files
            continue
        fi
        word=${line%%$'\t'*}
        about=
        [[ $line == *$'\t'* ]] && about=${line#*$'\t'}
        names+=("${word//:/\\:}${about:+:$about}")
    done
    (( $#names )) && _describe wproxy names
}
compdef _wproxy wproxy
`

const fishCompletion = `# Completion of wproxy for fish: wproxy completion fish | source
function __wproxy_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] ` + completeVerb + ` $words[2..-1] 2>/dev/null)
        if test "$line" = "` + filesWanted + `"
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c wproxy -f -a '(__wproxy_complete)'
`
