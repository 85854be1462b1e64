//! Between the host's calls and the function: strings as places in memory, panics and errors as texts.

use std::io::Write;

#[link(wasm_import_module = "spinney")]
extern "C" {
    fn abort(text: *const u8, size: usize) -> !;
}

extern "C" {
    fn __wasm_call_ctors();
}

/// What a function's `handle` may return.
trait Answer {
    /// A byte that says what it is, 0 for an output and 1 for a failure, and the text.
    fn pack(self) -> Vec<u8>;
}

impl Answer for String {
    fn pack(self) -> Vec<u8> {
        [&[0], self.as_bytes()].concat()
    }
}

impl Answer for Result<String, String> {
    fn pack(self) -> Vec<u8> {
        match self {
            Ok(output) => output.pack(),
            Err(failure) => [&[1], failure.as_bytes()].concat(),
        }
    }
}

fn call<A: Answer>(handle: fn(String) -> A, input: String) -> Vec<u8> {
    handle(input).pack()
}

fn flush() {
    let _ = std::io::stdout().flush();
}

#[no_mangle]
pub extern "C" fn _initialize() {
    unsafe { __wasm_call_ctors() };
    std::panic::set_hook(Box::new(|info| {
        flush();
        let text = match info.payload().downcast_ref::<String>() {
            Some(text) => text.as_str(),
            None => info.payload().downcast_ref::<&str>().copied().unwrap_or("panic"),
        };
        unsafe { abort(text.as_ptr(), text.len()) }
    }));
}

#[no_mangle]
pub extern "C" fn spinney_alloc(size: usize) -> *mut u8 {
    Box::leak(vec![0; size].into_boxed_slice()).as_mut_ptr()
}

#[no_mangle]
pub unsafe extern "C" fn spinney_handle(at: *mut u8, size: usize) -> u64 {
    let input = Box::from_raw(std::ptr::slice_from_raw_parts_mut(at, size));
    let input = String::from_utf8(input.into_vec()).unwrap();
    let answer = call(module::handle, input).leak();
    flush();
    (answer.as_ptr() as u64) << 32 | answer.len() as u64
}
