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

/// Below the caller's frame so much of the stack is left alone, for the frames of what runs meanwhile.
const STACK_KEPT_BYTES: usize = 4096;

/// Gives memory back that is only there because it was needed once, as at the start of a program: free pages of the
/// allocator, and those of the main thread's stack far below the caller's frame. For a process that stays, and idles.
pub fn release_unused() {
    // SAFETY: takes a number only, and returns free memory to the kernel.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    let Some(line) = maps.lines().find(|line| line.ends_with("[stack]")) else { return };
    let mut bounds = line.split([' ', '-']).map_while(|word| usize::from_str_radix(word, 16).ok());
    let (Some(start), Some(end)) = (bounds.next(), bounds.next()) else { return };
    let local = 0u8;
    let here = (&raw const local).addr();
    // Another thread's stack is another mapping.
    if !(start..end).contains(&here) {
        return;
    }
    let keep = here.saturating_sub(STACK_KEPT_BYTES) & !0xfff;
    if keep > start {
        // SAFETY: a stack grows down: `start..keep` is this thread's own, far below the frame of this function,
        // which calls nothing but madvise(2) from here on, so nothing lives there.
        unsafe { libc::madvise(std::ptr::without_provenance_mut(start), keep - start, libc::MADV_DONTNEED) };
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

    #[inline(never)]
    fn deep(level: u32) -> u64 {
        let frame = std::hint::black_box([u64::from(level); 128]);
        if level == 0 { frame[7] } else { deep(level - 1) + frame[9] }
    }

    #[test]
    fn the_stack_is_usable_after_its_release() {
        for _ in 0..3 {
            assert_eq!(deep(300), 300 * 301 / 2);
            release_unused();
        }
    }
}
