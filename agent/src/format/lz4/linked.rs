//! One block that may refer to the 64 KiB before it. Litestream never writes linked blocks, other LZ4 tools do by
//! default; this plain decoder is only for them. No I/O.

/// Appends the content of `block` to `out`, whose last 64 KiB are its dictionary; at most `max` bytes.
/// `None` if the bytes are not a block.
pub(super) fn decode(block: &[u8], max: usize, out: &mut Vec<u8>) -> Option<()> {
    let end = out.len().checked_add(max)?;
    let mut at = block;
    loop {
        let (&token, rest) = at.split_first()?;
        at = rest;
        let literals = length(usize::from(token >> 4), &mut at)?;
        let (bytes, rest) = at.split_at_checked(literals)?;
        if bytes.len() > end - out.len() {
            return None;
        }
        out.extend_from_slice(bytes);
        at = rest;
        if at.is_empty() {
            return Some(());
        }
        let (distance, rest) = at.split_first_chunk::<2>()?;
        at = rest;
        let distance = usize::from(u16::from_le_bytes(*distance));
        let len = length(usize::from(token & 15), &mut at)?.checked_add(4)?;
        let from = out.len().checked_sub(distance)?;
        if distance == 0 || len > end - out.len() {
            return None;
        }
        // The copy may run into what it is writing: that is how LZ4 repeats.
        for i in from..from + len {
            let byte = *out.get(i)?;
            out.push(byte);
        }
    }
}

/// A length of 15 goes on in the following bytes, up to and including the first that is not 255.
fn length(mut n: usize, at: &mut &[u8]) -> Option<usize> {
    if n == 15 {
        loop {
            let (&more, rest) = at.split_first()?;
            *at = rest;
            n = n.checked_add(usize::from(more))?;
            if more != 255 {
                break;
            }
        }
    }
    Some(n)
}

#[cfg(test)]
mod tests {
    use super::super::compress_block;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_agrees_with_the_library(plain in proptest::collection::vec(0u8..4, 1..5000)) {
            let mut block = Vec::new();
            compress_block(&plain, &mut block);
            prop_assume!(block[3] & 0x80 == 0);
            let mut out = b"before".to_vec();
            prop_assert_eq!(decode(&block[4..], plain.len(), &mut out), Some(()));
            prop_assert_eq!(&out[6..], &plain[..]);
            prop_assert_eq!(decode(&block[4..], plain.len() - 1, &mut Vec::new()), None);
        }

        #[test]
        fn any_bytes_are_a_block_or_not_but_never_a_panic(block in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            decode(&block, 4096, &mut out);
            prop_assert!(out.len() <= 4096);
        }
    }

    #[test]
    fn a_match_reaches_into_the_block_before() {
        let mut out = b"abcdefgh".to_vec();
        // no literals, a match of 4 + 4 bytes 8 back, then one literal
        assert_eq!(decode(&[0x04, 8, 0, 0x10, b'!'], 9, &mut out), Some(()));
        assert_eq!(out, b"abcdefghabcdefgh!");
        assert_eq!(
            decode(&[0x04, 9, 0, 0x10, b'!'], 9, &mut b"abcdefgh".to_vec()),
            None,
            "before the beginning"
        );
    }
}
