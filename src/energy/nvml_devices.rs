//! Which NVML device a CUDA ordinal is. NVML numbers all boards in PCI order; CUDA numbers only those that
//! `CUDA_VISIBLE_DEVICES` leaves, in its order.

/// The NVML index of a CUDA ordinal, given `CUDA_VISIBLE_DEVICES` and the boards' UUIDs in NVML's order.
/// The error says in words what does not fit.
pub(super) fn nvml_index(
    ordinal: usize,
    visible: Option<&str>,
    uuids: &[Option<String>],
) -> Result<u32, String> {
    let within = |index: usize| {
        let known = uuids.len();
        (index < known).then_some(index as u32).ok_or_else(|| {
            format!("CUDA device {ordinal} would be NVML device {index}, but NVML knows only {known}")
        })
    };
    let Some(visible) = visible.filter(|v| !v.trim().is_empty()) else {
        return within(ordinal);
    };
    let Some(entry) = visible.split(',').map(str::trim).nth(ordinal) else {
        return Err(format!(
            "CUDA_VISIBLE_DEVICES={visible} leaves no device {ordinal}"
        ));
    };
    if entry.starts_with("MIG-") {
        return Err(format!(
            "{entry} is a MIG slice, and NVML counts energy for whole boards only"
        ));
    }
    if let Ok(index) = entry.parse::<usize>() {
        return within(index);
    }
    // CUDA accepts any unambiguous beginning of a UUID.
    let matches = |uuid: &Option<String>| uuid.as_ref().is_some_and(|uuid| uuid.starts_with(entry));
    let mut found = uuids.iter().enumerate().filter(|(_, uuid)| matches(uuid));
    match (found.next(), found.next()) {
        (Some((index, _)), None) => within(index),
        (None, _) => Err(format!(
            "CUDA_VISIBLE_DEVICES names {entry}, which NVML does not know"
        )),
        _ => Err(format!(
            "CUDA_VISIBLE_DEVICES names {entry}, which fits several devices"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_cuda_visible_devices() {
        let uuids = [Some("GPU-aa11".to_owned()), Some("GPU-aa22".to_owned()), None];
        assert_eq!(nvml_index(1, None, &uuids), Ok(1));
        assert_eq!(nvml_index(0, Some("2,0"), &uuids), Ok(2));
        assert_eq!(nvml_index(1, Some("2, GPU-aa2"), &uuids), Ok(1));
        assert!(
            nvml_index(0, Some("GPU-aa"), &uuids)
                .unwrap_err()
                .contains("several")
        );
        assert!(nvml_index(0, Some("MIG-x"), &uuids).unwrap_err().contains("MIG"));
        assert!(
            nvml_index(1, Some("0"), &uuids)
                .unwrap_err()
                .contains("leaves no device 1")
        );
        assert!(nvml_index(3, None, &uuids).unwrap_err().contains("only 3"));
        assert!(
            nvml_index(0, Some("GPU-bb"), &uuids)
                .unwrap_err()
                .contains("does not know")
        );
    }
}
