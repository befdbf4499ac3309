//! Searching bytes faster than one at a time.

#![expect(unsafe_code, reason = "std's vector instructions are only callable so from plain functions")]

/// One bit for each byte of `block` that equals `wanted`, the first byte's bit lowest.
#[cfg(target_arch = "x86_64")]
#[inline]
#[must_use]
pub fn equal_bytes(block: &[u8; 64], wanted: u8) -> u64 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8};
    let mut mask = 0;
    for (index, lane) in block.as_chunks::<16>().0.iter().enumerate() {
        // SAFETY: every x86_64 has SSE2; the load needs no alignment, and `lane` is 16 readable bytes.
        let bits = unsafe {
            let equal =
                _mm_cmpeq_epi8(_mm_loadu_si128(lane.as_ptr().cast()), _mm_set1_epi8(wanted.cast_signed()));
            _mm_movemask_epi8(equal)
        };
        mask |= u64::from(bits.cast_unsigned()) << (index * 16);
    }
    mask
}

/// One bit for each byte of `block` that equals `wanted`, the first byte's bit lowest.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
#[must_use]
pub fn equal_bytes(block: &[u8; 64], wanted: u8) -> u64 {
    block.iter().enumerate().fold(0, |mask, (index, byte)| mask | (u64::from(*byte == wanted) << index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place() {
        assert_eq!(equal_bytes(&[7; 64], 7), u64::MAX);
        assert_eq!(equal_bytes(&[7; 64], 8), 0);
        for place in 0..64 {
            let mut block = [0xffu8; 64];
            block[place] = b'\n';
            assert_eq!(equal_bytes(&block, b'\n'), 1 << place);
        }
    }
}
