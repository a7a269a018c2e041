//! Makes a panic readable in the log before it ends the isolate.
//!
//! Called from each worker's `#[event(start)]`, which does nothing else: start-up is limited to a second of CPU.

/// Writes panics with their place to the console.
pub fn install() {
    console_error_panic_hook::set_once();
}
