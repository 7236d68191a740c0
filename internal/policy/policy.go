// Package policy holds the content security policies of the page, which its server sends as headers and its service worker adds where a server
// cannot.
package policy

// Page is the policy of every file but one: own origin only, no inline script and no eval but WebAssembly's.
const Page = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' data: blob:; " +
	"object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Download is the policy of the one script that may ask other addresses, for a model whose address a person typed. It runs in a worker of its
// own and is handed nothing else.
const Download = "default-src 'none'; script-src 'self'; connect-src 'self' https: http://127.0.0.1:* http://localhost:*"

// DownloadScript is that script's name below the page's address.
const DownloadScript = "worker/download.js"

// For returns the policy of a file of the page.
func For(name string) string {
	if name == DownloadScript {
		return Download
	}
	return Page
}
