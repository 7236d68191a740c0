package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"tabtune/host"
)

// flags is a command's flag set.
type flags struct {
	*flag.FlagSet
	app  *app
	json bool
}

func (a *app) flags(name string) *flags {
	f := &flags{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), app: a}
	f.SetOutput(io.Discard)
	f.BoolVar(&f.json, "json", false, "print results as one JSON object on the last line of standard output")
	return f
}

// parse reads flags and exactly n other arguments, in any order.
func (f *flags) parse(args []string, n int) (rest []string, err error) {
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				f.help()
				return nil, err
			}
			return nil, usagef("%s; see tabtune %s --help", flagMessage(err), f.Name())
		}
		if f.NArg() == 0 {
			break
		}
		rest = append(rest, f.Arg(0))
		args = f.Args()[1:]
	}
	switch {
	case len(rest) > n:
		return nil, usagef("unexpected argument %q; see tabtune %s --help", rest[n], f.Name())
	case len(rest) < n:
		return nil, usagef("an argument is missing; see tabtune %s --help", f.Name())
	}
	return rest, nil
}

// given tells whether a flag was on the command line.
func (f *flags) given(name string) (yes bool) {
	f.Visit(func(l *flag.Flag) { yes = yes || l.Name == name })
	return yes
}

// flagMessage puts package flag's messages into the form in which flags are written here.
func flagMessage(err error) string {
	s := err.Error()
	if name, ok := strings.CutPrefix(s, "flag provided but not defined: -"); ok {
		return "unknown flag --" + strings.TrimPrefix(name, "-")
	}
	if name, ok := strings.CutPrefix(s, "flag needs an argument: -"); ok {
		return "flag --" + strings.TrimPrefix(name, "-") + " needs a value"
	}
	return strings.Replace(s, "for flag -", "for --", 1)
}

// help prints the command's line and its flags.
func (f *flags) help() {
	for _, c := range commands() {
		if c.name == f.Name() {
			fmt.Fprintf(f.app.out, "tabtune %s\n    %s\n\nFlags:\n", strings.TrimSpace(c.name+" "+c.args), c.short)
		}
	}
	f.VisitAll(func(l *flag.Flag) {
		kind, text := flag.UnquoteUsage(l)
		if b, ok := l.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
			kind = ""
		}
		fmt.Fprintf(f.app.out, "  --%s\n        %s", strings.TrimSpace(l.Name+" "+kind), text)
		if l.DefValue != "" && l.DefValue != "0" && l.DefValue != "false" {
			fmt.Fprintf(f.app.out, " (default %s)", l.DefValue)
		}
		fmt.Fprintln(f.app.out)
	})
}

// modelFlags say which model to open and on what.
type modelFlags struct {
	model, dtype string
	window       int
	threads      int
	memory       string
}

func (f *flags) modelFlags() *modelFlags {
	m := &modelFlags{}
	f.StringVar(&m.model, "model", "", "the model, a .gguf `file`")
	f.StringVar(&m.dtype, "dtype", "int8", "how to hold the weights: `int8|f32|q4`")
	f.IntVar(&m.window, "window", 0, "tokens a row; longer rows are cut, and reported first (0: the module's default)")
	f.engineFlags(m)
	return m
}

func (f *flags) engineFlags(m *modelFlags) {
	f.IntVar(&m.threads, "threads", 0, "kernel threads; the results do not depend on it (0: one a processor)")
	f.StringVar(&m.memory, "memory", "", "most device memory, a `size` like 512MB or 2GB (default: as much as wasm allows, 4 GB)")
}

// options checks the flags and makes host options of them, with mounts for the model and the given places.
func (m *modelFlags) options(a *app, mounts ...host.Mount) (host.Options, error) {
	o := host.Options{Threads: m.threads, Mounts: mounts, Stderr: a.err}
	if m.threads < 0 || m.threads > 32 {
		return o, usagef("--threads %d: want 0 to 32", m.threads)
	}
	if m.memory != "" {
		n, err := parseSize(m.memory)
		if err != nil {
			return o, usagef("--memory %s: %v", m.memory, err)
		}
		o.MemoryLimit = n
	}
	return o, nil
}

// parseSize reads 512MB, 1.5GB, 2GiB or a number of bytes.
func parseSize(s string) (int64, error) {
	t := strings.ToUpper(strings.TrimSpace(s))
	unit := 1.0
	for _, u := range []struct {
		suffix string
		size   float64
	}{{"GIB", 1 << 30}, {"MIB", 1 << 20}, {"GB", 1e9}, {"MB", 1e6}, {"G", 1e9}, {"M", 1e6}} {
		if r, ok := strings.CutSuffix(t, u.suffix); ok {
			t, unit = strings.TrimSpace(r), u.size
			break
		}
	}
	n, err := strconv.ParseFloat(t, 64)
	if err != nil || math.IsNaN(n) {
		return 0, errors.New("want a size such as 512MB or 2GB")
	}
	if n *= unit; n < 16<<20 || n >= 4<<30 {
		return 0, errors.New("want 16MiB to just below 4GiB")
	}
	return int64(n), nil
}

// trainFlags are the run's knobs.
type trainFlags struct {
	estimator, lr, schedule, modules, layers string
	queries, batch, rank, steps, rows        int
	evalEvery, evalRows, answerRows          int
	objective                                string
	optimizer, noise, head                   string
	patience                                 int
	average, eps, subspace                   string
	refit, resample                          int
	warmup, beta, clip                       float64
	alpha, minutes                           float64
	seed                                     int64
}

func (f *flags) trainFlags() *trainFlags {
	t := &trainFlags{}
	f.StringVar(&t.estimator, "estimator", "auto", "`auto|head|prge|rows|mezo|fzoo|grzo|greedy`: auto fits an exact label head where there are labels and spends\n"+
		"        --steps, --rows or --minutes on training under it; head fits the head alone; prge runs queries in parallel in one call,\n"+
		"        rows with other rows for each, mezo one after the other. With one of --queries, --batch, --eps, --rank, --alpha, --modules,\n"+
		"        --optimizer or a number as --lr, auto means prge")
	f.IntVar(&t.queries, "queries", 4, "directions a step; mezo's default is 1")
	f.IntVar(&t.batch, "batch", 4, "rows a direction")
	f.StringVar(&t.eps, "eps", "0.01", "size of the perturbation: a `number`, or auto to compare the slopes of several")
	f.StringVar(&t.lr, "lr", "auto", "learning rate: a `number`, or auto to look for one")
	f.StringVar(&t.schedule, "schedule", "linear", "`linear|cosine|constant`: what becomes of the learning rate")
	f.Float64Var(&t.warmup, "warmup", 0, "`share` of the run over which the learning rate rises, 0 to below 1")
	f.StringVar(&t.head, "head", "", "where a label head reads: `any|output`: the layer that cross-validates best, or the final norm alone, where it is a LoRA\n        on the output head that PEFT loads (default any)")
	f.StringVar(&t.noise, "noise", "", "`normal|rademacher`: what directions are drawn from (default normal; fzoo: rademacher)")
	f.StringVar(&t.optimizer, "optimizer", "", "`sgd|momentum|adam|radazo|scalar|muon|mopi|hizoo`: from gradient estimates to steps (default sgd)")
	f.Float64Var(&t.beta, "beta", 0.9, "momentum of the optimizer, 0 to below 1")
	f.Float64Var(&t.clip, "clip", 0, "bound a direction's coefficient by `C` times the step's median (0: no bound)")
	f.StringVar(&t.average, "average", "", "score an average of the iterates beside them and keep it if it is better: `tail|D`, the last third of the run or\n        an exponential mean of decay D, such as 0.95 (default none)")
	f.StringVar(&t.subspace, "subspace", "", "`random|activations|labels|auto`: where the adapters' A come from: the seed, the leading directions of what the modules read, those that tell labels apart, or these where rows have labels (default random)")
	f.IntVar(&t.resample, "resample-every", 0, "go on with another random A every `N` steps; the adapter's rank grows by --rank each time, to 256 at most (0: never)")
	f.IntVar(&t.refit, "refit-every", 0, "fit the label head of --estimator auto again every `N` steps (0: never)")
	f.IntVar(&t.patience, "patience", 0, "end after `N` evaluations without a better one (0: never)")
	f.IntVar(&t.rank, "rank", 16, "rank of the adapter")
	f.Float64Var(&t.alpha, "alpha", 32, "the adapter's alpha; its output is scaled by alpha/rank")
	f.StringVar(&t.modules, "modules", "q,v", "adapted `layers of a block`, of q,k,v,o,gate,up,down, or auto: the set whose probe promises most")
	f.StringVar(&t.layers, "layers", "", "adapt the top `K|all|auto` blocks, auto as many as promise most for what they cost, or look for the head's features in them (default 4, for a head the upper half)")
	f.IntVar(&t.steps, "steps", 0, "end after `N` steps (default 200, unless --rows or --minutes is given, or the head is all)")
	f.IntVar(&t.rows, "rows", 0, "end after `N` rows through a replica")
	f.Float64Var(&t.minutes, "minutes", 0, "end after `M` minutes")
	f.Int64Var(&t.seed, "seed", 0, "seed of everything that is drawn")
	f.IntVar(&t.evalEvery, "eval-every", 0, "evaluate every `N` steps (0: the module's default)")
	f.IntVar(&t.evalRows, "eval-rows", 0, "use at most `N` validation rows each time (0: all)")
	f.IntVar(&t.answerRows, "answer-rows", 0, "generate at most `N` answers each time, where the metric needs them (0: 32)")
	f.StringVar(&t.objective, "objective", "", "`nll|likelihood|error|f1`: what is lowered; likelihood runs only the right option of a choice, error and f1 count wrong answers (default nll)")
	return t
}

// params makes parameters of the flags that f has read.
func (t *trainFlags) params(f *flags) (p host.TrainParams, err error) {
	p = host.TrainParams{Estimator: t.estimator, Queries: t.queries, Batch: t.batch, Schedule: t.schedule, Rank: t.rank,
		Alpha: t.alpha, Modules: list(t.modules), Steps: t.steps, Rows: t.rows, Minutes: t.minutes, Seed: t.seed,
		EvalEvery: t.evalEvery, EvalRows: t.evalRows, AnswerRows: t.answerRows, Objective: t.objective, LR: host.AutoLR,
		Optimizer: t.optimizer, Noise: t.noise, Head: t.head, Warmup: t.warmup, Clip: t.clip, Patience: t.patience, Average: t.average, Refit: t.refit,
		Subspace: t.subspace, Resample: t.resample}
	if f.given("beta") {
		p.Beta = &t.beta
	}
	for _, v := range []struct {
		name  string
		value float64
	}{{"queries", float64(t.queries)}, {"batch", float64(t.batch)}, {"rank", float64(t.rank)}, {"alpha", t.alpha}} {
		if !(v.value > 0) || math.IsInf(v.value, 0) {
			return p, usagef("--%s %v: want more than 0", v.name, v.value)
		}
	}
	if t.steps < 0 || t.rows < 0 || !(t.minutes >= 0) || math.IsInf(t.minutes, 0) || t.evalEvery < 0 || t.evalRows < 0 || t.answerRows < 0 {
		return p, usagef("--steps, --rows, --minutes, --eval-every, --eval-rows and --answer-rows must not be negative")
	}
	given := 0
	for _, set := range []bool{t.steps > 0, t.rows > 0, t.minutes > 0} {
		if set {
			given++
		}
	}
	if given > 1 {
		return p, usagef("--steps, --rows and --minutes exclude each other")
	}
	if t.estimator == "mezo" && !f.given("queries") {
		p.Queries = 0 // MeZO's own default is one
	}
	if t.seed < 0 || t.seed >= 1<<62 {
		return p, usagef("--seed %d: want 0 to 2^62-1", t.seed)
	}
	if t.lr != "auto" {
		lr, err := strconv.ParseFloat(t.lr, 64)
		if err != nil || !(lr > 0) || math.IsInf(lr, 0) {
			return p, usagef("--lr %q: want auto or a number above 0", t.lr)
		}
		p.LR = host.LR(lr)
	}
	p.Eps = host.AutoEps
	if t.eps != "auto" {
		eps, err := strconv.ParseFloat(t.eps, 64)
		if err != nil || !(eps > 0) || math.IsInf(eps, 0) {
			return p, usagef("--eps %s: want more than 0, or auto", t.eps)
		}
		p.Eps = host.Eps(eps)
	}
	if t.refit < 0 || t.resample < 0 {
		return p, usagef("--refit-every and --resample-every must not be negative")
	}
	if t.estimator == "auto" || t.estimator == "head" { // what is not given, the module chooses
		for name, clear := range map[string]func(){"queries": func() { p.Queries = 0 }, "batch": func() { p.Batch = 0 }, "eps": func() { p.Eps = nil },
			"rank": func() { p.Rank = 0 }, "alpha": func() { p.Alpha = 0 }, "modules": func() { p.Modules = nil }} {
			if !f.given(name) {
				clear()
			}
		}
	}
	switch t.layers {
	case "":
	case "all":
		p.Layers = host.AllLayers
	case "auto":
		p.Layers = host.AutoLayers
	default:
		k, err := strconv.Atoi(t.layers)
		if err != nil || k < 1 {
			return p, usagef("--layers %q: want all, auto or a number above 0", t.layers)
		}
		p.Layers = host.Layers(k)
	}
	return p, nil
}

// list splits a value at commas and trims spaces around its parts.
func list(s string) []string {
	if strings.TrimSpace(s) == "" {
		return nil
	}
	parts := strings.Split(s, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// inputFile checks that a flag names a file that can be read, and makes its path absolute.
func inputFile(name, path string) (string, error) { return input(name, path, false) }

// inputPath does the same for a file or a folder.
func inputPath(name, path string) (string, error) { return input(name, path, true) }

func input(name, path string, dirToo bool) (string, error) {
	if path == "" {
		return "", usagef("%s is required", name)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if info.IsDir() && !dirToo {
		return "", fmt.Errorf("%s: %s is a folder, want a file", name, path)
	}
	return filepath.Abs(path)
}

// modelPath checks --model and returns its path and mount.
func (m *modelFlags) modelPath() (string, host.Mount, error) {
	path, err := inputPath("--model", m.model)
	if err != nil {
		return "", host.Mount{}, err
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return path, host.Mount{Path: path}, nil
	}
	return path, host.File(path), nil
}

// adapterPath accepts an adapter's folder, or a run's folder that holds one.
func adapterPath(path string) (string, error) {
	abs, err := inputPath("--adapter", path)
	if err != nil {
		return "", err
	}
	for _, dir := range []string{abs, filepath.Join(abs, "adapter")} {
		for _, name := range []string{"adapter_config.json", "classifier.safetensors"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				return dir, nil
			}
		}
	}
	return "", fmt.Errorf("--adapter: %s holds no adapter_config.json and no classifier.safetensors", path)
}

// outputDir creates a folder for results and returns its absolute path.
func outputDir(name, path string) (string, error) {
	if path == "" {
		return "", usagef("%s is required", name)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if err := os.MkdirAll(abs, 0o755); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return abs, nil
}
