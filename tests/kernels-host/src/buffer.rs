//! Memory between pages that nobody may touch.

use std::ptr;

/// Bytes that end, up to 15 of slack, at a page without access, and begin behind another one somewhere before. They
/// begin on 16 bytes. New ones hold 0xFF: NaN in every float format.
pub struct Buffer {
    map: *mut libc::c_void,
    mapped: usize,
    begin: *mut u8,
    bytes: usize,
}

// SAFETY: it owns its memory, as a `Vec` does.
unsafe impl Send for Buffer {}

const POISON: u8 = 0xFF;

fn page() -> usize {
    // SAFETY: only asks.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).expect("pages have a size")
}

impl Buffer {
    /// # Panics
    /// When the system has no memory.
    pub fn new(bytes: usize) -> Self {
        let page = page();
        let aligned = bytes.next_multiple_of(16);
        let body = aligned.next_multiple_of(page);
        let mapped = body + 2 * page;
        // SAFETY: a new mapping; all of `begin..begin + aligned` lies in the part that may be touched.
        unsafe {
            let map = libc::mmap(
                ptr::null_mut(),
                mapped,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(map, libc::MAP_FAILED, "no memory for {bytes} bytes");
            let inside = map.cast::<u8>().add(page);
            if body > 0 {
                let opened = libc::mprotect(inside.cast(), body, libc::PROT_READ | libc::PROT_WRITE);
                assert_eq!(opened, 0, "memory cannot be opened");
            }
            let begin = inside.add(body - aligned);
            begin.write_bytes(POISON, aligned);
            Self {
                map,
                mapped,
                begin,
                bytes,
            }
        }
    }

    pub fn holding(bytes: &[u8]) -> Self {
        let mut buffer = Self::new(bytes.len());
        buffer.bytes_mut().copy_from_slice(bytes);
        buffer
    }

    /// From now on a write is a fault.
    pub fn protect(&mut self) {
        let page = page();
        // SAFETY: the part between the two outer pages is this buffer's own.
        let done = unsafe {
            libc::mprotect(
                self.map.cast::<u8>().add(page).cast(),
                self.mapped - 2 * page,
                libc::PROT_READ,
            )
        };
        assert!(done == 0 || self.bytes == 0, "memory cannot be protected");
    }

    pub fn address(&self) -> u64 {
        self.begin as u64
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is this buffer's own and initialised.
        unsafe { std::slice::from_raw_parts(self.begin, self.bytes) }
    }

    /// Not after [`Buffer::protect`].
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.begin, self.bytes) }
    }

    /// Whether the slack up to the guard page still holds what it held.
    pub fn slack_is_whole(&self) -> bool {
        let slack = self.bytes.next_multiple_of(16) - self.bytes;
        // SAFETY: the slack is this buffer's own and initialised.
        let slack = unsafe { std::slice::from_raw_parts(self.begin.add(self.bytes), slack) };
        slack.iter().all(|&byte| byte == POISON)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the mapping is this buffer's own.
        unsafe { libc::munmap(self.map, self.mapped) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_begin_on_sixteen_bytes_and_know_their_slack() {
        for bytes in [0, 1, 15, 16, 17, 4096, 5000] {
            let mut buffer = Buffer::holding(&vec![7; bytes]);
            assert_eq!(buffer.address() % 16, 0);
            assert_eq!(buffer.bytes(), vec![7; bytes]);
            assert!(buffer.slack_is_whole());
            if bytes % 16 != 0 {
                // SAFETY: the slack is inside of the buffer's memory.
                unsafe { buffer.bytes_mut().as_mut_ptr().add(bytes).write(0) };
                assert!(!buffer.slack_is_whole());
            }
        }
    }
}
