//! Large buffers that give their memory back to the kernel while nobody needs them.

#![expect(unsafe_code, reason = "mmap and its kin have no safe form in rustix")]

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::{fmt, io};

/// A buffer of anonymous pages, all zero at first. The allocator would keep what is freed; this does not.
pub struct Pages {
    start: NonNull<u8>,
    len: usize,
}

impl Pages {
    /// A buffer of `len` bytes; none of it takes memory before it is written to (mmap(2)).
    ///
    /// # Errors
    /// The address space or the memory's limit is exhausted, or `len` is 0.
    pub fn new(len: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous private mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    /// Gives the memory back (MADV_DONTNEED). The buffer stays usable and is all zero again.
    pub fn release(&mut self) {
        // SAFETY: the range is exactly our own mapping, and `&mut` means that nobody looks at its bytes.
        // It can't fail for such a range; if it did, memory would only stay in use.
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, libc::MADV_DONTNEED) };
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the range is exactly our own mapping, and nothing borrows from `self` any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

impl Deref for Pages {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `start..start + len` is mapped readable, initialised (zero) and ours while `self` lives.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, it is mapped writable, and `&mut self` makes the borrow unique.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pages({})", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_pages_are_zero_and_usable() {
        let mut pages = Pages::new(100_000).unwrap();
        assert!(pages.iter().all(|byte| *byte == 0));
        pages.fill(7);
        assert_eq!(pages[99_999], 7);
        pages.release();
        assert!(pages.iter().all(|byte| *byte == 0));
        pages[0] = 1;
        assert_eq!(pages[..2], [1, 0]);
        assert!(Pages::new(0).is_err());
    }
}
