//! What a test calls beside NVML's own functions. Times are nanoseconds of virtual time.

use std::ffi::{CStr, c_char};

use crate::command::obey;
use crate::config::Config;
use crate::state::with;

/// Plays other cards from now on, at time 0. The text is a [`Config`] in JSON; 1 when it is none.
///
/// # Safety
/// `json` points to a text that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn standin_configure(json: *const c_char) -> u32 {
    // SAFETY: the caller gives a text with a NUL at its end.
    let json = unsafe { CStr::from_ptr(json) };
    match serde_json::from_slice::<Config>(json.to_bytes()) {
        Ok(config) => {
            with(|state| state.configure(config));
            0
        }
        Err(_) => 1,
    }
}

/// The virtual time is `now`.
#[unsafe(no_mangle)]
pub extern "C" fn standin_set_now(now: u64) {
    with(|state| state.set_now(now));
}

/// The card spends energy, evenly from `start` to `end`, on top of its idle watts.
#[unsafe(no_mangle)]
pub extern "C" fn standin_spend(device: u32, start: u64, end: u64, microjoules: u64) {
    with(|state| {
        if let Some(board) = state.boards.get_mut(device as usize) {
            board.draw.spend(start, end, microjoules as f64);
        }
    });
}

/// What the card truly drew from time 0 until then, idling included.
#[unsafe(no_mangle)]
pub extern "C" fn standin_true_microjoules(device: u32, until: u64) -> u64 {
    with(|state| {
        let board = state.boards.get(device as usize);
        board.map_or(0, |b| b.draw.until(until).round() as u64)
    })
}

/// How often the card's energy or power was read.
#[unsafe(no_mangle)]
pub extern "C" fn standin_reads(device: u32) -> u64 {
    with(|state| state.boards.get(device as usize).map_or(0, |b| b.reads()))
}

/// Obeys a command; 1 when it makes no sense.
///
/// # Safety
/// `line` points to a text that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn standin_command(line: *const c_char) -> u32 {
    // SAFETY: the caller gives a text with a NUL at its end.
    let line = unsafe { CStr::from_ptr(line) };
    with(|state| {
        let now = state.now();
        let done = line.to_str().is_ok_and(|line| obey(line, now, &mut state.boards));
        u32::from(!done)
    })
}
