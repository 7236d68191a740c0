// Package host runs tabtune.wasm outside the browser: the same bytes that the page loads, on wazero, without cgo. It is what the
// tabtune command is made of, and what another project's tests can use to fine-tune headless:
//
//	h, err := host.Open(ctx, host.Options{Mounts: []host.Mount{host.File(model), host.File(csv), host.Dir(out)}})
//	defer h.Close()
//	_, err = h.OpenModel(ctx, host.ModelParams{Path: model, DType: "int8"}, nil)
//	_, err = h.OpenData(ctx, host.DataParams{Path: csv, TextColumn: "text", LabelColumn: "label"})
//	result, err := h.Train(ctx, host.TrainParams{Steps: 20, Out: out}, func(e host.TrainEvent) error { ... })
//
// The module sees no file but those below Options.Mounts, each at its own absolute path, read-only unless asked otherwise; it has no
// network and no environment. Everything goes through its JSON protocol (package wasm/rpc): Call is one request, Task drives a
// long one piece by piece and hears the context between two pieces; the other methods are typed forms of these two.
//
// The module itself is not in the repository: "make build" puts it in host/dist, from where it is embedded.
package host
