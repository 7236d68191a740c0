package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"tabtune/host"
)

func generate(ctx context.Context, a *app, args []string) error {
	f := a.flags("generate")
	m := f.modelFlags()
	adapter := f.String("adapter", "", "the adapter's `folder`, or a run's, or a GGUF adapter")
	p := host.GenerateParams{}
	f.StringVar(&p.Prompt, "prompt", "", "the `text` to continue")
	f.IntVar(&p.MaxTokens, "max-tokens", 64, "end after `N` tokens")
	f.Float64Var(&p.Temperature, "temperature", 0, "how freely to choose, `T`: 0 takes the most likely token")
	f.Int64Var(&p.Seed, "seed", 0, "seed of the draws")
	f.BoolVar(&p.Chat, "chat", false, "put the prompt into the model's chat template")
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	switch {
	case p.Prompt == "":
		return usagef("--prompt is required")
	case p.MaxTokens < 1:
		return usagef("--max-tokens %d: want 1 or more", p.MaxTokens)
	case !(p.Temperature >= 0 && p.Temperature <= 100):
		return usagef("--temperature %v: want 0 to 100", p.Temperature)
	}
	s, err := newSession(a, m, nil, 0)
	if err != nil {
		return err
	}
	dir, err := s.useAdapter(*adapter)
	if err != nil {
		return err
	}
	p.Adapter = dir != ""
	if err := s.startWith(ctx, dir); err != nil {
		return err
	}
	defer s.close()
	_, raw, err := runTask[host.GenerateResult](ctx, s.engine, "generate", p, func(t host.Token) error {
		if f.json {
			return nil
		}
		_, err := io.WriteString(a.out, t.Text)
		return err
	})
	if err != nil {
		return err
	}
	if f.json {
		return a.printJSON(raw)
	}
	_, err = fmt.Fprintln(a.out)
	return err
}

// maxLine bounds a line of tokenize's input, in bytes.
const maxLine = 8 << 20

func tokenize(ctx context.Context, a *app, args []string) error {
	f := a.flags("tokenize")
	m := f.modelFlags()
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	path, mount, err := m.modelPath()
	if err != nil {
		return err
	}
	o, err := m.options(a, mount)
	if err != nil {
		return err
	}
	e, err := a.open(ctx, o)
	if err != nil {
		return err
	}
	defer e.Close()
	if err := e.Call(ctx, "tokenizer.open", map[string]string{"path": path}, nil); err != nil {
		return err
	}
	out := bufio.NewWriter(a.out)
	in := bufio.NewReaderSize(a.in, 64<<10)
	lines, tokens := 0, 0
	for {
		line, err := readLine(in)
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", lines+1, err)
		}
		lines++
		var r struct {
			IDs []int `json:"ids"`
		}
		if err := e.Call(ctx, "tokenize", map[string]string{"text": line}, &r); err != nil {
			return errors.Join(out.Flush(), fmt.Errorf("line %d: %w", lines, err))
		}
		tokens += len(r.IDs)
		buf := append(out.AvailableBuffer(), '[')
		for i, id := range r.IDs {
			if i > 0 {
				buf = append(buf, ", "...)
			}
			buf = fmt.Append(buf, id)
		}
		if _, err := out.Write(append(buf, "]\n"...)); err != nil {
			return err
		}
		if in.Buffered() == 0 { // someone types: answer now
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if f.json {
		return a.printJSON(map[string]int{"lines": lines, "tokens": tokens})
	}
	return nil
}

// readLine returns the next line without its \n, or io.EOF. Other line ends are part of the text.
func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if line = append(line, part...); len(line) > maxLine {
			return "", fmt.Errorf("longer than %d bytes", maxLine)
		}
		switch {
		case err == nil:
			return string(line[:len(line)-1]), nil
		case err == io.EOF && len(line) > 0:
			return string(line), nil
		case err != bufio.ErrBufferFull:
			return "", err
		}
	}
}
