//! Headers as a plain object, which the runtime reads once: a `Headers` object would be one more thing for its collector, and
//! on the way of every hook the collector's pauses are what the slowest answers wait for.

use worker::js_sys::{Object, Reflect};
use worker::wasm_bindgen::JsValue;

/// An object with a property per header.
pub(crate) fn header_object<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> worker::Result<JsValue> {
    let object = Object::new();
    for (name, value) in headers {
        Reflect::set(&object, &JsValue::from_str(name), &JsValue::from_str(value))?;
    }
    Ok(object.into())
}
