//! An LTX file is refused, or read the same in pieces, and again after it is written anew in either encoding.

use bytes::Bytes;

use crate::format::ltx::{
    Cut, Decoder, Encoder, Error, Event, HEADER_LEN, Header, PageEncoding, PageFault, Refused, Rolling,
    Splitter, Summary, decode, lock_page,
};

/// Whatever the bytes are; and once more with an end that fits their pages. The checksums, which would keep a fuzzer
/// out of the rest, are put right in both.
pub fn check(bytes: &[u8]) {
    summed(bytes.to_vec());
    if let Some(ended) = ended(bytes) {
        summed(ended);
    }
}

fn summed(mut bytes: Vec<u8>) {
    for _ in 0..4 {
        let Err(Error::Checksum { at, found, .. }) = one(&bytes) else { return };
        // Where a checksum has to be 0 or is a rolling one, the file's own is wrong after this.
        bytes[at as usize..at as usize + 8].copy_from_slice(&found.to_be_bytes());
    }
}

/// As many page frames as stand one after the other, with the index of them and room for the checksums.
fn ended(bytes: &[u8]) -> Option<Vec<u8>> {
    // Every run has one page: its length is the frame's.
    let mut splitter = Splitter::new(1);
    splitter.feed(Bytes::copy_from_slice(bytes));
    let Ok(Cut::Header(..)) = splitter.cut() else { return None };
    let (mut out, mut index, mut last) = (bytes[..HEADER_LEN].to_vec(), Vec::new(), 0);
    while let Ok(Cut::Run(run)) = splitter.cut() {
        let frame = &bytes[out.len()..out.len() + run.stored_len()];
        last = u32::from_be_bytes(*frame.first_chunk()?);
        for value in [last as usize, out.len(), frame.len()] {
            varint(value, &mut index);
        }
        out.extend_from_slice(frame);
    }
    out[12..16].copy_from_slice(&last.to_be_bytes());
    index.push(0);
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&index);
    out.extend_from_slice(&(index.len() as u64).to_be_bytes());
    out.extend_from_slice(&[0; 16]);
    Some(out)
}

fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value > 127 {
        out.push((value % 128) as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
}

fn one(bytes: &[u8]) -> Result<Summary, Error> {
    let mut pages = Digest::default();
    let whole = decode(Bytes::copy_from_slice(bytes), |number, image| pages.add(number, image));
    let piece = 1 + bytes.len() % 251;
    let mut again = Digest::default();
    let in_pieces = read_in_pieces(bytes, piece, |number, image| again.add(number, image));
    // Which of several faults comes first depends on the pieces, but not whether there is one.
    assert_eq!(in_pieces.is_ok(), whole.is_ok(), "{in_pieces:?} in pieces of {piece}, {whole:?}");
    let Ok(summary) = whole.clone() else { return whole };
    assert_eq!((in_pieces, &again), (Ok(summary), &pages), "in pieces of {piece}");
    assert_eq!((summary.size, summary.pages), (bytes.len() as u64, pages.count));
    for encoding in [PageEncoding::Block, PageEncoding::Frame] {
        let Some(stored) = written_anew(bytes, &summary, encoding) else { continue };
        let mut again = Digest::default();
        let read = decode(stored.clone().into(), |number, image| again.add(number, image));
        let Ok(read) = read else { panic!("what was written is not read: {read:?}") };
        assert_eq!(
            (read.header, read.pages, read.post_apply),
            (summary.header, summary.pages, summary.post_apply)
        );
        assert_eq!(again, pages);
        assert_eq!(
            written_anew(&stored, &read, encoding),
            Some(stored),
            "the second time differs from the first"
        );
    }
    whole
}

fn read_in_pieces(bytes: &[u8], piece: usize, mut page: impl FnMut(u32, &[u8])) -> Result<Summary, Error> {
    let mut decoder = Decoder::new(piece * 64);
    let mut summary = None;
    for part in bytes.chunks(piece) {
        decoder.feed(Bytes::copy_from_slice(part));
        loop {
            match decoder.next()? {
                Event::More => break,
                Event::Header(_) => {}
                Event::Page { number, image } => page(number, image),
                Event::End(end) => summary = Some(end),
            }
        }
    }
    decoder.finish()?;
    Ok(summary.expect("a decoder finishes after the end"))
}

/// The same pages in a file of ours; `None` for the one thing that is read but never written.
fn written_anew(bytes: &[u8], summary: &Summary, encoding: PageEncoding) -> Option<Vec<u8>> {
    let Summary { header, post_apply, .. } = *summary;
    let mut out = Vec::new();
    let encoder = Encoder::new(header, encoding, &mut out);
    if header.commit == 0 && header.rolling.is_none() {
        assert_eq!(encoder.err(), Some(Refused::NoPages));
        return None;
    }
    let mut encoder = encoder.expect("a header that is read can be written");
    refuses(&mut encoder, &header, &mut out);
    decode(Bytes::copy_from_slice(bytes), |number, image| {
        encoder.push(number, image, &mut out).expect("a page that is read can be written");
    })
    .expect("what was read once is read again");
    encoder.finish(post_apply.filter(|_| !header.is_full()), &mut out).expect("so can the end");
    Some(out)
}

/// A page that cannot be leaves no trace.
fn refuses(encoder: &mut Encoder, header: &Header, out: &mut Vec<u8>) {
    let len = out.len();
    let lock = lock_page(header.page_size);
    for (number, fault) in [(0, PageFault::Zero), (lock, PageFault::Lock)] {
        assert_eq!(encoder.push(number, &[], out), Err(Refused::Page { number, fault }));
    }
    assert_eq!(out.len(), len);
}

/// What the pages were, without keeping them.
#[derive(Debug, PartialEq, Eq)]
struct Digest {
    count: u64,
    last: u32,
    /// Not what the file's own checksums are made of, so that a page taken for another does not go unnoticed.
    sum: Rolling,
    hash: u32,
}

impl Default for Digest {
    fn default() -> Self {
        Self { count: 0, last: 0, sum: Rolling::EMPTY, hash: 0 }
    }
}

impl Digest {
    fn add(&mut self, number: u32, image: &[u8]) {
        assert!(number > self.last, "page {number} after {}", self.last);
        assert!(image.len().is_power_of_two() && (512..=65536).contains(&image.len()));
        self.count += 1;
        self.last = number;
        self.sum = self.sum.toggle(number, image);
        self.hash = xxhash_rust::xxh32::xxh32(image, self.hash.rotate_left(5) ^ number);
    }
}
