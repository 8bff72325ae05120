//! The WAL of one index as its segments bring it: joined, cut into frames and verified. Bytes in, pages out.

use crate::format::layout::Name;
use crate::format::wal::{
    Chain, Checksum, FrameFault, FrameHeader, HEADER_LEN, Header, HeaderFault, PageSize,
};

/// Why the content of a segment does not continue its WAL.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WalFault {
    #[error("starts at byte {starts}, but the WAL before it ends at byte {ends}: a segment is missing")]
    Missing { starts: u64, ends: u64 },
    #[error("starts at byte {starts}, but the WAL before it ends at byte {ends}: the segments overlap")]
    Overlap { starts: u64, ends: u64 },
    #[error(transparent)]
    Header(HeaderFault),
    #[error("page size {found}, but the database has {expected}")]
    PageSize { found: PageSize, expected: PageSize },
    #[error(transparent)]
    Frame(FrameFault),
    #[error("the WAL ends {0} bytes into a frame")]
    Partial(usize),
    #[error(
        "continues a WAL that ended at byte {said}, but the index before it ends at byte {ends}: its end is missing"
    )]
    Tail { said: u64, ends: u64 },
    #[error("continues another WAL than the index before it: running checksum {said}, found {found}")]
    Other { said: Checksum, found: Checksum },
}

/// Joins the segments of one index after the other.
pub(super) struct Frames {
    page_size: Option<PageSize>,
    chain: Option<Chain>,
    /// The beginning of a header or frame whose end has not come yet.
    carry: Vec<u8>,
    /// Bytes of the current WAL so far.
    end: u64,
    /// How the WAL before the current one ended.
    before: Option<(u64, Checksum)>,
}

impl Frames {
    /// `page_size` is the base's; a base of zero bytes has none and takes the first WAL's.
    pub(super) fn new(page_size: Option<PageSize>) -> Self {
        Self { page_size, chain: None, carry: Vec::new(), end: 0, before: None }
    }

    /// A segment comes next. The first of an index has offset 0 and starts a new WAL.
    pub(super) fn segment(&mut self, name: &Name) -> Result<(), WalFault> {
        let Name::Segment { offset: starts, .. } = *name else { return Ok(()) };
        let ends = self.end;
        match starts.cmp(&ends) {
            std::cmp::Ordering::Less => Err(WalFault::Overlap { starts, ends }),
            std::cmp::Ordering::Greater => Err(WalFault::Missing { starts, ends }),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    /// Takes content and hands out the frames that are complete, verified, each with its page.
    pub(super) fn push<E: From<WalFault>>(
        &mut self,
        mut bytes: &[u8],
        mut page: impl FnMut(FrameHeader, &[u8], &Chain) -> Result<(), E>,
    ) -> Result<(), E> {
        self.end += bytes.len() as u64;
        loop {
            let want = self.chain.as_ref().map_or(HEADER_LEN, Chain::frame_len);
            if self.carry.is_empty() {
                let Some((whole, rest)) = bytes.split_at_checked(want) else { break };
                bytes = rest;
                self.step(whole, &mut page)?;
                continue;
            }
            let (head, rest) = bytes.split_at(bytes.len().min(want - self.carry.len()));
            self.carry.extend_from_slice(head);
            bytes = rest;
            if self.carry.len() < want {
                return Ok(());
            }
            let whole = std::mem::take(&mut self.carry);
            self.step(&whole, &mut page)?;
        }
        self.carry.extend_from_slice(bytes);
        Ok(())
    }

    /// The index has no more segments.
    pub(super) fn finish(&mut self) -> Result<(), WalFault> {
        if !self.carry.is_empty() {
            return Err(WalFault::Partial(self.carry.len()));
        }
        self.before = self.chain.take().map(|chain| (self.end, chain.checksum));
        self.end = 0;
        Ok(())
    }

    /// The first segment of an index says how the index before it ended. Without one before it, in this restore,
    /// there is nothing to compare.
    pub(super) fn follows(&self, said: u64, checksum: Checksum) -> Result<(), WalFault> {
        match self.before {
            Some((ends, _)) if ends != said => Err(WalFault::Tail { said, ends }),
            Some((_, found)) if found != checksum => Err(WalFault::Other { said: checksum, found }),
            Some(_) | None => Ok(()),
        }
    }

    /// Bytes of the current WAL so far.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    fn step<E: From<WalFault>>(
        &mut self,
        whole: &[u8],
        page: &mut impl FnMut(FrameHeader, &[u8], &Chain) -> Result<(), E>,
    ) -> Result<(), E> {
        match &mut self.chain {
            Some(chain) => {
                let header = chain.verify(whole).map_err(WalFault::Frame)?;
                page(header, &whole[whole.len() - chain.page_size.get() as usize..], chain)
            }
            none => {
                let header = Header::parse(whole).map_err(WalFault::Header)?;
                let (found, expected) = (header.page_size, *self.page_size.get_or_insert(header.page_size));
                if found != expected {
                    return Err(WalFault::PageSize { found, expected }.into());
                }
                *none = Some(Chain::start(&header));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::layout::{Generation, WalIndex};
    use crate::format::wal::{Salt, WordOrder};
    use proptest::prelude::*;

    fn segment(offset: u64) -> Name {
        Name::Segment { generation: Generation::new(1), index: WalIndex::ZERO, offset }
    }

    fn wal(pages: &[u32]) -> Vec<u8> {
        let header = Header {
            order: WordOrder::Big,
            page_size: PageSize::new(512).unwrap(),
            sequence: 0,
            salt: Salt([7; 8]),
            checksum: Checksum::default(),
        };
        let mut bytes = header.encode().to_vec();
        let mut chain = Chain::start(&Header::parse(&bytes).unwrap());
        for &page in pages {
            let mut frame = FrameHeader { page, commit: page, salt: chain.salt, checksum: chain.checksum }
                .encode()
                .to_vec();
            frame.resize(chain.frame_len(), page as u8);
            chain.seal(&mut frame);
            bytes.extend_from_slice(&frame);
        }
        bytes
    }

    fn pushed(frames: &mut Frames, bytes: &[u8]) -> Result<Vec<u32>, WalFault> {
        let mut pages = Vec::new();
        frames.push(bytes, |header, page, _| {
            assert!(page.len() == 512 && page.iter().all(|b| *b == header.page as u8));
            pages.push(header.page);
            Ok::<(), WalFault>(())
        })?;
        Ok(pages)
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_give_the_same_frames(pages in proptest::collection::vec(1u32..200, 0..8), piece in 1usize..1500) {
            let mut frames = Frames::new(PageSize::new(512));
            let mut seen = Vec::new();
            for part in wal(&pages).chunks(piece) {
                seen.extend(pushed(&mut frames, part).unwrap());
            }
            prop_assert_eq!(seen, pages);
            prop_assert_eq!(frames.finish(), Ok(()));
        }
    }

    #[test]
    fn segments_join_exactly_or_say_what_is_wrong() {
        let mut frames = Frames::new(None);
        assert_eq!(frames.segment(&segment(0)), Ok(()));
        pushed(&mut frames, &wal(&[1, 2])).unwrap();
        assert_eq!(frames.segment(&segment(32 + 2 * 536)), Ok(()));
        assert_eq!(frames.segment(&segment(2000)), Err(WalFault::Missing { starts: 2000, ends: 1104 }));
        assert_eq!(frames.segment(&segment(568)), Err(WalFault::Overlap { starts: 568, ends: 1104 }));
        frames.finish().unwrap();
        assert_eq!(frames.segment(&segment(0)), Ok(()), "the next index starts over");
    }

    #[test]
    fn an_index_that_lost_its_end_is_noticed_by_the_next() {
        let bytes = wal(&[1, 2, 3]);
        let sum = Chain::start(&Header::parse(&wal(&[])).unwrap()).checksum;
        let mut frames = Frames::new(None);
        assert_eq!(frames.follows(1640, sum), Ok(()), "nothing came before");
        pushed(&mut frames, &bytes[..32 + 2 * 536]).unwrap();
        frames.finish().unwrap();
        assert_eq!(frames.follows(1640, sum), Err(WalFault::Tail { said: 1640, ends: 1104 }));
        assert!(matches!(frames.follows(1104, sum), Err(WalFault::Other { .. })));
    }

    #[test]
    fn a_wal_of_another_page_size_or_with_half_a_frame_is_refused() {
        let mut frames = Frames::new(PageSize::new(4096));
        assert!(matches!(pushed(&mut frames, &wal(&[1])), Err(WalFault::PageSize { .. })));
        let mut frames = Frames::new(None);
        pushed(&mut frames, &wal(&[1])[..100]).unwrap();
        assert_eq!(frames.finish(), Err(WalFault::Partial(68)));
    }

    #[test]
    fn a_flipped_bit_in_a_frame_is_a_fault_at_its_offset() {
        let mut bytes = wal(&[1, 2, 3]);
        bytes[32 + 536 + 24 + 5] ^= 1;
        let fault = pushed(&mut Frames::new(None), &bytes).unwrap_err();
        assert!(fault.to_string().starts_with("frame at 0x238: checksum"), "{fault}");
    }
}
