//! NVML's own functions, as nvml.h declares them, for what a meter asks.

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};

use crate::board::Board;
use crate::config::Fault;
use crate::state::{State, with};

type Return = c_uint;
/// A card's number plus one, so that none is null.
type Handle = *mut c_void;

const SUCCESS: Return = 0;
const UNINITIALIZED: Return = 1;
const INVALID_ARGUMENT: Return = 2;
const NOT_SUPPORTED: Return = 3;
const NOT_FOUND: Return = 6;
const INSUFFICIENT_SIZE: Return = 7;

const VALUE_UNSIGNED_INT: c_uint = 1;
const VALUE_UNSIGNED_LONG_LONG: c_uint = 3;

/// `nvmlFieldValue_t`; the value is a union of eight bytes.
#[repr(C)]
pub struct FieldValue {
    field: c_uint,
    scope: c_uint,
    timestamp: i64,
    latency: i64,
    value_type: c_uint,
    result: Return,
    value: u64,
}

/// `nvmlPciInfo_t`.
#[repr(C)]
pub struct PciInfo {
    legacy: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    device_id: c_uint,
    subsystem: c_uint,
    id: [c_char; 32],
}

fn ready<T>(use_it: impl FnOnce(&mut State) -> Result<T, Return>) -> Result<T, Return> {
    with(|state| {
        if state.users == 0 {
            return Err(UNINITIALIZED);
        }
        use_it(state)
    })
}

fn code(result: Result<(), Return>) -> Return {
    result.err().unwrap_or(SUCCESS)
}

/// The card behind a handle, the time, and whether it can be had at all.
fn board<T>(handle: Handle, use_it: impl FnOnce(&mut Board, u64) -> Result<T, Return>) -> Result<T, Return> {
    ready(|state| {
        let now = state.now();
        let place = (handle as usize).checked_sub(1).ok_or(INVALID_ARGUMENT)?;
        let board = state.boards.get_mut(place).ok_or(INVALID_ARGUMENT)?;
        match board.fault(now) {
            Some(fault) => Err(fault.code()),
            None => use_it(board, now),
        }
    })
}

/// A read of energy or power: counted, and failing by chance.
fn measure<T>(
    handle: Handle,
    use_it: impl FnOnce(&mut Board, u64) -> Result<T, Return>,
) -> Result<T, Return> {
    ready(|state| {
        state.take_time();
        Ok(())
    })?;
    let read = |board: &mut Board, now: u64| match board.read(now) {
        Ok(()) => use_it(board, now),
        Err(fault) => Err(fault.code()),
    };
    board(handle, read)
}

/// Writes a text and a NUL.
///
/// # Safety
/// `to` points to `length` bytes.
unsafe fn write(text: &str, to: *mut c_char, length: usize) -> Result<(), Return> {
    if to.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    if text.len() >= length {
        return Err(INSUFFICIENT_SIZE);
    }
    // SAFETY: the text and its NUL fit into the caller's bytes.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), to, text.len());
        *to.add(text.len()) = 0;
    }
    Ok(())
}

/// # Safety
/// `to` is null or points to a place for a `T`.
unsafe fn give<T>(value: T, to: *mut T) -> Result<(), Return> {
    if to.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: not null, hence a place for a `T` by the caller's promise.
    unsafe { to.write(value) };
    Ok(())
}

fn uuid(board: &Board, place: usize) -> String {
    match board.config.uuid.as_str() {
        "" => format!("GPU-{place:08x}-5ca1-ab1e-0000-{place:012x}"),
        own => own.to_owned(),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> Return {
    with(|state| match state.driver_fault() {
        Some(fault) => fault.code(),
        None => {
            state.users += 1;
            SUCCESS
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> Return {
    nvmlInit_v2()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> Return {
    code(ready(|state| {
        state.users -= 1;
        Ok(())
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(result: Return) -> *const c_char {
    let text: &CStr = match result {
        SUCCESS => c"Success",
        UNINITIALIZED => c"Uninitialized",
        INVALID_ARGUMENT => c"Invalid Argument",
        NOT_SUPPORTED => c"Not Supported",
        4 => c"Insufficient Permissions",
        NOT_FOUND => c"Not Found",
        9 => c"Driver Not Loaded",
        10 => c"Timeout",
        15 => c"GPU is lost",
        16 => c"GPU requires reset",
        27 => c"System is not in ready state",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}

/// # Safety
/// `version` points to `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> Return {
    // SAFETY: by the caller's promise.
    code(ready(|state| unsafe {
        write(&state.driver, version, length as usize)
    }))
}

/// # Safety
/// `count` is null or points to an integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> Return {
    // SAFETY: by the caller's promise.
    code(ready(|state| match state.driver_fault() {
        Some(fault) => Err(fault.code()),
        None => unsafe { give(state.boards.len() as c_uint, count) },
    }))
}

/// # Safety
/// `handle` is null or points to a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, handle: *mut Handle) -> Return {
    let wanted = (index as usize + 1) as Handle;
    // SAFETY: by the caller's promise.
    code(board(wanted, |_, _| unsafe { give(wanted, handle) }))
}

/// # Safety
/// `name` points to a text that ends with a NUL, `handle` is null or points to a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByUUID(name: *const c_char, handle: *mut Handle) -> Return {
    if name.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: by the caller's promise.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    let found = ready(|state| {
        let mut boards = state.boards.iter().enumerate();
        let found = boards.find(|(place, board)| uuid(board, *place) == name);
        found.map(|(place, _)| (place + 1) as Handle).ok_or(NOT_FOUND)
    });
    // SAFETY: by the caller's promise.
    code(found.and_then(|wanted| board(wanted, |_, _| unsafe { give(wanted, handle) })))
}

/// # Safety
/// `text` points to `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(handle: Handle, text: *mut c_char, length: c_uint) -> Return {
    let place = (handle as usize).saturating_sub(1);
    // SAFETY: by the caller's promise.
    code(board(handle, |board, _| unsafe {
        write(&uuid(board, place), text, length as usize)
    }))
}

/// # Safety
/// `text` points to `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(handle: Handle, text: *mut c_char, length: c_uint) -> Return {
    // SAFETY: by the caller's promise.
    code(board(handle, |board, _| unsafe {
        write(&board.config.name, text, length as usize)
    }))
}

/// # Safety
/// `info` is null or points to a place for it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(handle: Handle, info: *mut PciInfo) -> Return {
    let place = (handle as usize).saturating_sub(1) as c_uint;
    let mut filled = PciInfo {
        legacy: [0; 16],
        domain: 0,
        bus: place + 1,
        device: 0,
        device_id: 0x2330_10de,
        subsystem: 0x16c1_10de,
        id: [0; 32],
    };
    // SAFETY: both places are as long as said.
    let texts = unsafe {
        write(
            &format!("0000:{:02x}:00.0", place + 1),
            filled.legacy.as_mut_ptr(),
            16,
        )
        .and(write(
            &format!("00000000:{:02X}:00.0", place + 1),
            filled.id.as_mut_ptr(),
            32,
        ))
    };
    // SAFETY: by the caller's promise.
    code(texts.and_then(|()| board(handle, |_, _| unsafe { give(filled, info) })))
}

/// # Safety
/// `current` and `pending` are null or point to integers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    handle: Handle,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> Return {
    code(board(handle, |board, _| {
        let mode = c_uint::from(board.config.mig);
        // SAFETY: by the caller's promise.
        unsafe { give(mode, current).and(give(mode, pending)) }
    }))
}

/// # Safety
/// `milliwatts` is null or points to an integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetEnforcedPowerLimit(handle: Handle, milliwatts: *mut c_uint) -> Return {
    code(board(handle, |board, _| {
        // SAFETY: by the caller's promise.
        unsafe { give((board.config.power_limit * 1e3) as c_uint, milliwatts) }
    }))
}

/// # Safety
/// `millijoules` is null or points to an integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEnergyConsumption(
    handle: Handle,
    millijoules: *mut c_ulonglong,
) -> Return {
    // SAFETY: by the caller's promise.
    code(measure(handle, |board, now| unsafe {
        give(energy(board, now)?, millijoules)
    }))
}

/// # Safety
/// `milliwatts` is null or points to an integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPowerUsage(handle: Handle, milliwatts: *mut c_uint) -> Return {
    // SAFETY: by the caller's promise.
    code(measure(handle, |board, now| unsafe {
        give(average(board, now)?, milliwatts)
    }))
}

/// # Safety
/// `values` points to `count` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetFieldValues(
    handle: Handle,
    count: c_int,
    values: *mut FieldValue,
) -> Return {
    if values.is_null() || count < 1 {
        return INVALID_ARGUMENT;
    }
    // SAFETY: by the caller's promise.
    let values = unsafe { std::slice::from_raw_parts_mut(values, count as usize) };
    code(measure(handle, |board, now| {
        for value in values {
            value.timestamp = (now / 1_000) as i64;
            value.latency = 0;
            let (kind, read) = match value.field {
                83 | 191 => (VALUE_UNSIGNED_LONG_LONG, energy(board, now)),
                185 => (VALUE_UNSIGNED_INT, average(board, now).map(u64::from)),
                186 => (VALUE_UNSIGNED_INT, instant(board, now).map(u64::from)),
                _ => (VALUE_UNSIGNED_INT, Err(NOT_SUPPORTED)),
            };
            value.value_type = kind;
            value.result = read.err().unwrap_or(SUCCESS);
            value.value = read.unwrap_or(0);
        }
        Ok(())
    }))
}

fn energy(board: &mut Board, now: u64) -> Result<u64, Return> {
    if board.config.has_counter {
        Ok(board.counter(now))
    } else {
        Err(Fault::NotSupported.code())
    }
}

fn average(board: &Board, now: u64) -> Result<u32, Return> {
    if board.config.has_power {
        Ok(board.power(now, board.config.average_ms))
    } else {
        Err(Fault::NotSupported.code())
    }
}

fn instant(board: &Board, now: u64) -> Result<u32, Return> {
    if board.config.has_instant {
        Ok(board.power(now, board.config.instant_ms))
    } else {
        Err(Fault::NotSupported.code())
    }
}
