// Package ui holds what the page shows and decides without any browser in it: the messages it exchanges with the worker, settings and
// their checks, text for numbers, chart geometry, the saved adapter's archive. It is plain Go, so its tests run natively.
package ui
