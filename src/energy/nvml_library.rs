//! Loading NVIDIA's management library, its errors in words, and the boards it knows.

use std::ffi::OsStr;
use std::path::Path;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::nvml_devices::Board;

/// What the driver installs.
pub(super) const LIBRARY: &str = "libnvidia-ml.so.1";
/// `NVML_ERROR_NOT_READY` (nvml.h), which the wrapper does not name.
const NOT_READY: u32 = 27;

pub(super) fn load(library: &OsStr) -> Result<Nvml, String> {
    Nvml::builder()
        .lib_path(library)
        .init()
        .map_err(|e| format!("{} cannot be used: {}", library.to_string_lossy(), plain(&e)))
}

/// Loads the library and lists the boards it knows, in PCI order, which is NVML's. As long as the caller keeps what it
/// gets, loading it again costs next to nothing: NVML counts its users, and only the first wakes the driver.
pub(super) fn list(library: Option<&Path>) -> Result<(Nvml, Vec<Board>), String> {
    let nvml = load(library.map_or(OsStr::new(LIBRARY), Path::as_os_str))?;
    let count = nvml
        .device_count()
        .map_err(|e| format!("NVML does not count its devices: {}", plain(&e)))?;
    let at = |index| nvml.device_by_index(index).map(|device| board(&device));
    let boards = (0..count).map(|index| at(index).unwrap_or_default()).collect();
    Ok((nvml, boards))
}

fn board(device: &Device) -> Board {
    let slices = if has_slices(device) {
        device.mig_device_count().unwrap_or(0)
    } else {
        0
    };
    Board {
        uuid: device.uuid().ok(),
        name: device.name().ok(),
        slices: (0..slices)
            .filter_map(|index| {
                device
                    .mig_device_by_index(index)
                    .and_then(|slice| slice.uuid())
                    .ok()
            })
            .collect(),
    }
}

/// Whether the board is cut into MIG slices.
pub(super) fn has_slices(device: &Device) -> bool {
    device.mig_mode().is_ok_and(|mode| mode.current != 0)
}

/// An NVML error in words, with what is to be done where NVML's own words do not say.
pub(super) fn plain(error: &NvmlError) -> String {
    match error {
        NvmlError::NoPermission => {
            "no permission; in a container start it with the NVIDIA runtime and the `utility` capability \
             (NVIDIA_DRIVER_CAPABILITIES=compute,utility)"
                .to_owned()
        }
        NvmlError::DriverNotLoaded => "the NVIDIA driver is not loaded".to_owned(),
        NvmlError::GpuLost => "the GPU fell off the bus or is out of reach".to_owned(),
        NvmlError::NotSupported => "this device (or virtual GPU) does not support it".to_owned(),
        NvmlError::LibRmVersionMismatch => {
            "the driver was changed under the library (restart the machine or reload the driver)".to_owned()
        }
        NvmlError::UnexpectedVariant(NOT_READY) => {
            "the system is not in ready state (NVML error 27)".to_owned()
        }
        NvmlError::FailedToLoadSymbol(_) => "this library is too old to have it".to_owned(),
        other => other.to_string(),
    }
}

/// Whether the driver itself is gone, or the board from its place, so that only loading anew can help.
pub(super) fn is_lost(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::Uninitialized
            | NvmlError::DriverNotLoaded
            | NvmlError::GpuLost
            | NvmlError::ResetRequired
            | NvmlError::LibRmVersionMismatch
            | NvmlError::InvalidArg
            | NvmlError::NotFound
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named() {
        let error = list(Some(Path::new("/nowhere/libnvidia-ml.so"))).err().unwrap();
        assert!(
            error.contains("/nowhere/libnvidia-ml.so cannot be used"),
            "{error}"
        );
    }

    #[test]
    fn errors_that_nvml_explains_badly_are_explained() {
        for (error, words) in [
            (NvmlError::NoPermission, "`utility` capability"),
            (NvmlError::UnexpectedVariant(27), "not in ready state"),
            (NvmlError::FailedToLoadSymbol("x".into()), "too old"),
            (NvmlError::Timeout, "timeout"),
        ] {
            assert!(plain(&error).contains(words), "{}", plain(&error));
        }
    }
}
