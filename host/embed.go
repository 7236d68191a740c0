package host

import (
	"embed"
	"errors"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

// ErrNotBuilt says that this program was compiled before tabtune.wasm was.
var ErrNotBuilt = errors.New("tabtune.wasm is not in this build: run \"make build\"")

// Module returns the embedded tabtune.wasm, or [ErrNotBuilt].
func Module() ([]byte, error) {
	b, err := dist.ReadFile("dist/tabtune.wasm")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotBuilt
	}
	return b, err
}
