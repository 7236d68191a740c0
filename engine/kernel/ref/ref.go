// Package ref has a scalar Go reference of every kernel: plain loops over slices, for tests. Each
// rounds where its kernel rounds, so that integer kernels compare bit for bit; what differs, and by
// how much, is said at the function.
package ref
