//! `memora call`: a request to a service.

use std::ffi::OsString;
use std::time::Duration;

use serde_json::{Map, Value};

use super::open::{Place, value};
use crate::output::{Answer, Outcome, Output, put_value};

pub fn run(place: &Place, name: &str, request: OsString, timeout: Duration, output: &mut Output) -> Outcome {
    let request = value(request)?;
    let service = place.open()?.open_service(name)?;
    let mut reply = Vec::new();
    service.client()?.call(&request, &mut reply, Some(timeout))?;
    if output.is_json() {
        let mut object = Map::new();
        put_value(&mut object, &reply);
        output.answer(|| Value::Object(object), String::new)?;
    } else {
        output.value(&reply)?;
    }
    Ok(Answer::Yes)
}
