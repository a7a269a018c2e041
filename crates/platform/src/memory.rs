//! How much memory the worker's heap takes: the platform ends an isolate at 128 MB.

/// Bytes per page of WebAssembly memory.
#[cfg(target_arch = "wasm32")]
const PAGE_BYTES: u64 = 64 * 1024;

/// Size of the module's memory in bytes. It only ever grows, so this is also its peak. Zero in native builds.
#[must_use]
pub fn wasm_memory_bytes() -> u64 {
    #[cfg(target_arch = "wasm32")]
    {
        core::arch::wasm32::memory_size(0) as u64 * PAGE_BYTES
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        0
    }
}
