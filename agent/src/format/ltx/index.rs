//! The page index at a file's end, compared with the pages as it comes. Bytes in, verdicts out.
//!
//! An entry is three varints (unsigned LEB128): number, offset and size of a page frame. Page frames stand one after
//! the other, so each entry's offset is known from the sizes before it, and only numbers and sizes are left to
//! compare. They are compared by a running hash: memory does not follow the number of pages
//! (spec/litestream-v05.md §1.3).

use super::Error;

/// What the pages were, as far as the index has to say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Listed {
    pub(super) pages: u64,
    hash: u64,
}

impl Listed {
    pub(super) fn push(&mut self, number: u32, size: u64) {
        self.pages += 1;
        // Against a writer that errs, not one that means harm: that one would also know how to make a checksum.
        let entry = u64::from(number) << 32 ^ size;
        self.hash = (self.hash.rotate_left(23) ^ entry).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Reads an index byte by byte.
#[derive(Debug)]
pub(super) struct IndexReader {
    pages: Listed,
    seen: Listed,
    /// Where the next entry's page begins, and where the pages end.
    next: u64,
    end: u64,
    /// Offset of the next byte, and bytes of the index so far.
    at: u64,
    pub(super) len: u64,
    field: Field,
    value: u64,
    shift: u32,
}

#[derive(Debug, Clone, Copy)]
enum Field {
    Number { after: u32 },
    Offset { number: u32 },
    Size { number: u32 },
}

impl IndexReader {
    /// `first` is where the first page begins, `end` where the last one ends, `at` where the index begins.
    pub(super) fn new(pages: Listed, first: u64, end: u64, at: u64) -> Self {
        let field = Field::Number { after: 0 };
        Self { pages, seen: Listed::default(), next: first, end, at, len: 0, field, value: 0, shift: 0 }
    }

    /// Takes bytes up to the end of the index: how many, and whether that is the end.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(usize, bool), Error> {
        for (n, &byte) in bytes.iter().enumerate() {
            let over = self.step(byte)?;
            self.at += 1;
            self.len += 1;
            if over {
                return Ok((n + 1, true));
            }
        }
        Ok((bytes.len(), false))
    }

    fn step(&mut self, byte: u8) -> Result<bool, Error> {
        let part = u64::from(byte & 0x7f);
        if self.shift > 63 || self.shift == 63 && part > 1 {
            return Err(self.fault("number longer than bits", self.shift.into(), 64));
        }
        self.value |= part << self.shift;
        self.shift += 7;
        if byte & 0x80 != 0 {
            return Ok(false);
        }
        let value = std::mem::take(&mut self.value);
        self.shift = 0;
        self.field = match self.field {
            Field::Number { .. } if value == 0 => return self.finish().map(|()| true),
            Field::Number { after } => match u32::try_from(value) {
                Ok(number) if number > after => Field::Offset { number },
                _ => return Err(self.fault("page", value, u64::from(after) + 1)),
            },
            Field::Offset { .. } if value != self.next || self.next >= self.end => {
                return Err(self.fault("offset", value, self.next.min(self.end)));
            }
            Field::Offset { number } => Field::Size { number },
            Field::Size { .. } if value > self.end - self.next => {
                return Err(self.fault("size", value, self.end - self.next));
            }
            Field::Size { number } => {
                self.next += value;
                self.seen.push(number, value);
                Field::Number { after: number }
            }
        };
        Ok(false)
    }

    /// The index is complete: it lists what there is.
    fn finish(&self) -> Result<(), Error> {
        if self.seen.pages != self.pages.pages {
            return Err(self.fault("end after pages", self.seen.pages, self.pages.pages));
        }
        if self.seen != self.pages {
            // Which of them shows only by comparing all, which nobody remembers.
            return Err(self.fault("hash of all numbers and sizes", self.seen.hash, self.pages.hash));
        }
        Ok(())
    }

    fn fault(&self, what: &'static str, found: u64, expected: u64) -> Error {
        Error::Index { at: self.at, entry: self.seen.pages, what, found, expected }
    }
}

/// Appends `value` as a varint.
pub(super) fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The inverse of [`put`], for what `put` wrote: a value and the bytes after it.
pub(super) fn get(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (n, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[n + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An index of pages that begin at 100, and a reader that expects them.
    fn index(pages: &[(u32, u64)]) -> (Vec<u8>, IndexReader) {
        let (mut bytes, mut listed, mut at) = (Vec::new(), Listed::default(), 100);
        for &(number, size) in pages {
            listed.push(number, size);
            for value in [number.into(), at, size] {
                put(value, &mut bytes);
            }
            at += size;
        }
        bytes.push(0);
        (bytes, IndexReader::new(listed, 100, at, at + 6))
    }

    proptest! {
        #[test]
        fn an_index_of_the_pages_is_accepted_in_pieces_of_any_length(
            gaps in proptest::collection::vec((1u32..300, 10u64..70_000), 0..40), piece in 1usize..50,
        ) {
            let mut number = 0;
            let pages: Vec<_> = gaps.iter().map(|(gap, size)| { number += gap; (number, *size) }).collect();
            let (mut bytes, mut reader) = index(&pages);
            let len = bytes.len();
            bytes.extend([7; 9]);
            let mut taken = 0;
            loop {
                let end = bytes.len().min(taken + piece);
                let (n, over) = reader.push(&bytes[taken..end]).unwrap();
                taken += n;
                if over { break; }
            }
            prop_assert_eq!((taken, reader.len), (len, len as u64));
        }

        #[test]
        fn every_other_byte_of_it_is_noticed(
            at in any::<proptest::sample::Index>(), flip in 1u8..=255, more in any::<[u8; 40]>(),
        ) {
            let (mut bytes, mut reader) = index(&[(1, 300), (2, 64), (5, 4000), (300, 12)]);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            bytes.extend(more);
            prop_assert!(reader.push(&bytes).is_err());
        }

        #[test]
        fn get_is_the_inverse_of_put(value: u64, rest in proptest::collection::vec(any::<u8>(), 0..3)) {
            let mut bytes = Vec::new();
            put(value, &mut bytes);
            bytes.extend(&rest);
            prop_assert_eq!(get(&bytes), Some((value, &rest[..])));
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let (bytes, _) = index(&[(1, 300), (2, 64)]);
        let (_, mut other) = index(&[(1, 300), (2, 65)]);
        let e = other.push(&bytes).unwrap_err();
        assert!(matches!(e, Error::Index { entry: 2, what: "hash of all numbers and sizes", .. }), "{e}");
        let (_, mut other) = index(&[(1, 301), (2, 64)]);
        let e = other.push(&bytes).unwrap_err();
        assert!(matches!(e, Error::Index { what: "hash of all numbers and sizes", .. }), "{e}");
        let (_, mut other) = index(&[(1, 300), (2, 64), (3, 64)]);
        let e = other.push(&bytes).unwrap_err();
        assert!(matches!(e, Error::Index { what: "end after pages", found: 2, expected: 3, .. }), "{e}");
        let (mut bytes, mut reader) = index(&[(1, 300), (2, 64)]);
        bytes[1] = 99;
        let e = reader.push(&bytes).unwrap_err();
        assert_eq!(e.to_string(), "page index, byte 471, entry 0: offset 99, expected 100");
    }
}
