// Between the host's calls and the function: strings as places in memory, panics and errors as texts.
package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"unsafe"

	function "function" // a package main too
)

const (
	output, failure = 0, 1      // the first byte of an answer
	memoryBytes     = 112 << 20 // beyond it the collector works harder: the host allows no more than 128 MiB
	stackBytes      = 16 << 20
)

var input, answer []byte // kept, so that the collector leaves them alone

// handler is what a function's Handle may be.
type handler interface {
	func(string) string | func(string) (string, error)
}

func call[H handler](handle H, input string) (string, error) {
	switch handle := any(handle).(type) {
	case func(string) (string, error):
		return handle(input)
	case func(string) string:
		return handle(input), nil
	}
	panic("unreachable")
}

//go:wasmexport spinney_alloc
func spinneyAlloc(size uint32) unsafe.Pointer {
	input = make([]byte, size)
	return unsafe.Pointer(unsafe.SliceData(input))
}

//go:wasmexport spinney_handle
func spinneyHandle(_, _ uint32) uint64 {
	answer = run()
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(answer))))<<32 | uint64(len(answer))
}

func run() (answer []byte) {
	defer func() {
		if value := recover(); value != nil {
			answer = append([]byte{failure}, describe(value)...)
		}
	}()
	text, err := call(function.Handle, string(input))
	if err != nil {
		return append([]byte{failure}, err.Error()...)
	}
	return append([]byte{output}, text...)
}

// describe says what a panic was about.
func describe(value any) string {
	if err, ok := value.(runtime.Error); ok {
		return strings.TrimPrefix(err.Error(), "runtime error: ")
	}
	return fmt.Sprint(value)
}

func init() {
	debug.SetMemoryLimit(memoryBytes)
	debug.SetMaxStack(stackBytes)
}

func main() {}
