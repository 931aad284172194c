//! Two operations on a cache line that safe code cannot request from the CPU: comparing sixteen bytes at once,
//! and prefetching a line. This is the only unsafe code of this crate. Each operation has a safe twin, which
//! other CPUs use and which the tests compare it with.

/// Bytes that are compared at once: four more than the tags of a bucket.
const BYTES: usize = 16;

/// Returns one bit for each byte that equals `byte`, the first byte in the lowest bit.
#[cfg(target_feature = "sse2")]
#[expect(unsafe_code, reason = "comparing tags word by word is a third of the cost of an add")]
#[inline]
pub(super) fn equal(bytes: &[u8; BYTES], byte: u8) -> u32 {
    // SAFETY: this is compiled only for targets with SSE2.
    unsafe { sse2::equal(bytes, byte) }
}

#[cfg(not(target_feature = "sse2"))]
pub(super) use twin::equal;

/// Requests the cache line at the beginning of a value, without waiting for it.
#[cfg(target_feature = "sse2")]
#[expect(unsafe_code, reason = "an ordinary load would stall the instructions behind it")]
#[inline]
pub(super) fn prefetch<T>(value: &T) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch reads nothing and cannot fail, whatever the address; this one is valid.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(value).cast()) }
}

#[cfg(not(target_feature = "sse2"))]
pub(super) use twin::prefetch;

#[cfg(target_feature = "sse2")]
mod sse2 {
    use core::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};

    use super::BYTES;

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn equal(bytes: &[u8; BYTES], byte: u8) -> u32 {
        let all = u128::from_le_bytes(*bytes);
        #[expect(clippy::cast_possible_truncation, reason = "one half each")]
        let (low, high) = (all as u64, (all >> 64) as u64);
        let all = _mm_set_epi64x(high.cast_signed(), low.cast_signed());
        let equal = _mm_cmpeq_epi8(all, _mm_set1_epi8(byte.cast_signed()));
        _mm_movemask_epi8(equal).cast_unsigned()
    }
}

/// The same operations in safe code: eight bytes at a time in a word.
#[cfg(any(test, not(target_feature = "sse2")))]
mod twin {
    use super::BYTES;

    /// Returns a word with 1 in each byte that is zero in `word`, and 0 in the others.
    const fn zero_bytes(word: u64) -> u64 {
        const LOW_SEVEN: u64 = 0x7f7f_7f7f_7f7f_7f7f;
        !(((word & LOW_SEVEN) + LOW_SEVEN) | word | LOW_SEVEN) >> 7
    }

    #[inline]
    pub(in super::super) fn equal(bytes: &[u8; BYTES], byte: u8) -> u32 {
        const ALL: u64 = 0x0101_0101_0101_0101;
        // Gathers the lowest bits of eight bytes in the highest byte.
        const TOGETHER: u64 = 0x0102_0408_1020_4080;
        let mut equal = 0;
        for (word, place) in bytes.as_chunks::<8>().0.iter().zip([0, 8]) {
            let zeros = zero_bytes(u64::from_le_bytes(*word) ^ (ALL * u64::from(byte)));
            equal |= (zeros.wrapping_mul(TOGETHER) >> 56) << place;
        }
        // At most sixteen bits are set.
        u32::try_from(equal).unwrap_or(0)
    }

    /// Does nothing: safe code cannot do better than wait when the value is needed.
    #[cfg(not(target_feature = "sse2"))]
    #[inline]
    pub(in super::super) fn prefetch<T>(_value: &T) {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_are_compared_as_by_the_twin_and_one_by_one(
            bytes: [u8; BYTES],
            byte: u8,
            same in 0u8..16,
        ) {
            let bytes = bytes.map(|other| if other & 15 == same { byte } else { other });
            let one_by_one = bytes.iter().rev().fold(0, |bits, b| bits << 1 | u32::from(*b == byte));
            prop_assert_eq!(equal(&bytes, byte), one_by_one);
            prop_assert_eq!(twin::equal(&bytes, byte), one_by_one);
        }
    }

    #[test]
    fn a_prefetch_changes_nothing() {
        let values = [7u8; 100];
        values.iter().for_each(prefetch);
        assert_eq!(values, [7; 100]);
    }
}
