//! Which NVML device a CUDA ordinal is. NVML numbers all boards in PCI order; CUDA numbers only those that
//! `CUDA_VISIBLE_DEVICES` leaves, in its order, and where `CUDA_DEVICE_ORDER` does not say `PCI_BUS_ID`, counts them
//! fastest first.

/// A board as NVML lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Board {
    pub(super) uuid: Option<String>,
    pub(super) name: Option<String>,
    /// UUIDs of its MIG slices.
    pub(super) slices: Vec<String>,
}

/// What decides about CUDA's numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Cuda {
    /// `CUDA_VISIBLE_DEVICES`.
    pub(super) visible: Option<String>,
    /// `CUDA_DEVICE_ORDER`.
    pub(super) order: Option<String>,
}

impl Cuda {
    pub(super) fn from_environment() -> Self {
        Self {
            visible: std::env::var("CUDA_VISIBLE_DEVICES").ok(),
            order: std::env::var("CUDA_DEVICE_ORDER").ok(),
        }
    }
}

/// The NVML index of a CUDA ordinal. `uuid` is the ordinal's own, where CUDA was asked for it (`cuDeviceGetUuid`, with
/// or without the prefix `GPU-`); it settles the matter, whatever the environment says. The error says in words what
/// does not fit, and the mend.
pub(super) fn nvml_index(
    ordinal: usize,
    uuid: Option<&str>,
    cuda: &Cuda,
    boards: &[Board],
) -> Result<u32, String> {
    if let Some(uuid) = uuid {
        return by_uuid(uuid, boards).map_err(|why| format!("CUDA device {ordinal} is {uuid}, {why}"));
    }
    let Some(visible) = &cuda.visible else {
        return by_number(ordinal, ordinal, cuda, boards);
    };
    // CUDA shows nothing from the first entry on that it does not know.
    let entries: Vec<&str> = visible.split(',').map(str::trim).collect();
    let valid = entries
        .iter()
        .position(|entry| entry.is_empty() || entry.starts_with('-'))
        .unwrap_or(entries.len());
    let Some(entry) = entries[..valid].get(ordinal) else {
        return Err(format!(
            "CUDA_VISIBLE_DEVICES={visible} leaves no device {ordinal}"
        ));
    };
    match entry.parse() {
        Ok(index) => by_number(ordinal, index, cuda, boards),
        Err(_) => by_uuid(entry, boards).map_err(|why| format!("CUDA_VISIBLE_DEVICES names {entry}, {why}")),
    }
}

fn by_number(ordinal: usize, index: usize, cuda: &Cuda, boards: &[Board]) -> Result<u32, String> {
    let known = boards.len();
    if index >= known {
        return Err(format!(
            "CUDA device {ordinal} would be NVML device {index}, but NVML knows only {known}"
        ));
    }
    let alike = boards.windows(2).all(|pair| pair[0].name == pair[1].name);
    if !alike && cuda.order.as_deref() != Some("PCI_BUS_ID") {
        return Err(format!(
            "boards of several kinds are here, and CUDA numbers the fastest first, NVML by PCI address, so CUDA device \
             {ordinal} may be any of them; set CUDA_DEVICE_ORDER=PCI_BUS_ID or name boards by UUID in \
             CUDA_VISIBLE_DEVICES"
        ));
    }
    Ok(index as u32)
}

fn by_uuid(entry: &str, boards: &[Board]) -> Result<u32, String> {
    if let Some(slice) = entry.strip_prefix("MIG-") {
        // Before driver 470 a slice was named by its board: MIG-GPU-<uuid>/<instance>/<instance>.
        let board = slice.split('/').next().unwrap_or_default();
        let has = |b: &Board| b.slices.iter().any(|s| s == entry) || b.uuid.as_deref() == Some(board);
        let found = boards.iter().position(has);
        return found
            .map(|index| index as u32)
            .ok_or_else(|| "a MIG slice of no board that NVML shows here".to_owned());
    }
    // CUDA accepts any unambiguous beginning of a UUID.
    let bare = entry.strip_prefix("GPU-").unwrap_or(entry);
    let fits = |uuid: &str| uuid.strip_prefix("GPU-").unwrap_or(uuid).starts_with(bare);
    let mut found = boards
        .iter()
        .enumerate()
        .filter(|(_, board)| board.uuid.as_deref().is_some_and(fits));
    match (found.next(), found.next()) {
        (Some((index, _)), None) => Ok(index as u32),
        (None, _) => Err("which NVML does not know".to_owned()),
        _ => Err("which fits several devices".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boards() -> Vec<Board> {
        let board = |uuid: &str| Board {
            uuid: Some(uuid.to_owned()),
            name: Some("H100".to_owned()),
            slices: vec![],
        };
        let sliced = Board {
            slices: vec!["MIG-77-88".to_owned()],
            ..board("GPU-cc33")
        };
        vec![board("GPU-aa11"), board("GPU-aa22"), sliced]
    }

    fn index(ordinal: usize, visible: Option<&str>) -> Result<u32, String> {
        let cuda = Cuda {
            visible: visible.map(str::to_owned),
            order: None,
        };
        nvml_index(ordinal, None, &cuda, &boards())
    }

    #[test]
    fn follows_cuda_visible_devices() {
        assert_eq!(index(1, None), Ok(1));
        assert_eq!(index(0, Some("2,0")), Ok(2));
        assert_eq!(index(1, Some("2, GPU-aa2")), Ok(1));
        for (ordinal, visible, words) in [
            (0, "GPU-aa", "several"),
            (1, "0", "leaves no device 1"),
            (0, "", "leaves no device 0"),
            (1, "0,-1,1", "leaves no device 1"),
            (0, "GPU-bb", "does not know"),
            (0, "9", "only 3"),
        ] {
            let error = index(ordinal, Some(visible)).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert!(index(3, None).unwrap_err().contains("only 3"));
    }

    #[test]
    fn a_slice_is_found_by_its_board() {
        assert_eq!(index(0, Some("MIG-77-88")), Ok(2));
        assert_eq!(index(0, Some("MIG-GPU-aa22/1/0")), Ok(1));
        assert!(index(0, Some("MIG-99")).unwrap_err().contains("MIG slice"));
    }

    #[test]
    fn boards_of_several_kinds_need_the_order_or_a_uuid() {
        let mut boards = boards();
        boards[1].name = Some("L4".to_owned());
        let mut cuda = Cuda::default();
        let error = nvml_index(0, None, &cuda, &boards).unwrap_err();
        assert!(error.contains("CUDA_DEVICE_ORDER=PCI_BUS_ID"), "{error}");
        assert_eq!(nvml_index(0, Some("aa22"), &cuda, &boards), Ok(1));
        cuda.visible = Some("GPU-cc33".to_owned());
        assert_eq!(nvml_index(0, None, &cuda, &boards), Ok(2));
        cuda = Cuda {
            visible: None,
            order: Some("PCI_BUS_ID".to_owned()),
        };
        assert_eq!(nvml_index(1, None, &cuda, &boards), Ok(1));
    }

    #[test]
    fn cudas_own_uuid_settles_it() {
        let cuda = Cuda {
            visible: Some("0".to_owned()),
            order: None,
        };
        assert_eq!(nvml_index(0, Some("GPU-cc33"), &cuda, &boards()), Ok(2));
        assert!(
            nvml_index(0, Some("dd44"), &cuda, &boards())
                .unwrap_err()
                .contains("does not know")
        );
    }
}
