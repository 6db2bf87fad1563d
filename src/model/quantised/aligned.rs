//! Memory that products stream through.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// A zeroed run of bytes that begins on a page. A token alone reads every weight once, some hundred thousand pages
/// of 4 KiB: large pages where the kernel has them spare most look-ups of their addresses.
pub(in crate::model) struct AlignedBytes(MmapMut);

impl AlignedBytes {
    /// # Errors
    /// When there is no memory for them.
    pub(in crate::model) fn zeroed(len: usize) -> std::io::Result<Self> {
        // An empty map is an error of its own.
        let map = MmapMut::map_anon(len.max(1))?;
        #[cfg(target_os = "linux")]
        if let Err(error) = map.advise(memmap2::Advice::HugePage) {
            tracing::debug!(%error, "this kernel has no large pages for weights");
        }
        Ok(Self(map))
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
