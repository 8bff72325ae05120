//! Looks at a replica: which layout it has, what is there, and whether its newest upload is where the live WAL can go
//! on. Lists once, and reads the beginning of one object.

use jiff::Timestamp;

use super::frames::proof;
use crate::format::ltx::{HEADER_LEN, Header, Level, decode};
use crate::format::wal::{FRAME_HEADER_LEN, FrameHeader, PageSize};
use crate::plan::ltx::files::File;
use crate::plan::ltx::replica::{Head, Last};
use crate::plan::opening::{Format, Opening};
use crate::run::flights::Wing;
use crate::run::survey::Survey;
use crate::source::tail::WalBytes;
use crate::store::{Object, StoreError};

/// What a look found.
pub(in crate::run) enum Found {
    /// The replica has the v0.3 layout, or is to have it.
    Wal(Vec<Object>),
    Ltx(Head),
}

impl Wing {
    /// Lists the replica and chooses the layout, `asked` being the one that is configured.
    pub(in crate::run) async fn find(
        &self,
        asked: Option<Format>,
        wal: &WalBytes,
        page_size: PageSize,
    ) -> Result<Found, StoreError> {
        let survey = Survey::of(&self.store).await?;
        let opening = survey.opening(asked);
        if let Opening::Change { .. } = opening {
            tracing::info!(db = self.db, replica = self.name, "going to {opening}");
        }
        let Survey { objects, files } = survey;
        match opening.format() {
            Format::V03 => Ok(Found::Wal(objects)),
            Format::Ltx => {
                let last = match files.newest(Level::ZERO) {
                    Some(file) => self.last(file, wal, page_size).await?,
                    None => None,
                };
                Ok(Found::Ltx(Head { files, last }))
            }
        }
    }

    /// The newest upload beside the live WAL; `None` if it is not one.
    ///
    /// Proven by ours: the WAL's running checksum up to where the upload ends, which covers every frame before it. By
    /// Litestream's, as it proves its own: the same salt, and at the end a frame whose page is in the upload byte by
    /// byte. That page may have been written twice with the same content, so the first is the stronger one.
    async fn last(
        &self,
        file: &File,
        wal: &WalBytes,
        page_size: PageSize,
    ) -> Result<Option<Last>, StoreError> {
        let key = file.name.key(self.store.ltx_layout());
        if file.size < HEADER_LEN as u64 {
            return Ok(None);
        }
        let bytes = self.store.get(&key, Some(0..HEADER_LEN as u64)).await?;
        // A damaged or foreign end proves nothing; what it means for a restore, a restore will say.
        let Some(Ok(header)) = bytes.first_chunk().map(Header::parse) else { return Ok(None) };
        if (header.min, header.max) != (file.name.min, file.name.max) {
            return Ok(None);
        }
        let end = header.wal.offset.saturating_add(header.wal.size);
        let local = wal.frame_before(end, page_size.frame_len()).ok().flatten();
        let local = local.filter(|frame| frame.salt == header.wal.salt && header.page_size == page_size);
        let same = match local {
            None => false,
            Some(frame) if header.node != 0 => header.node == proof(frame.checksum),
            Some(frame) if file.size <= LARGEST => {
                let mut image = vec![0; page_size.get() as usize];
                let at = end - page_size.frame_len() + FRAME_HEADER_LEN as u64;
                let read = wal.read(&mut image, at).is_ok();
                read && self.holds(&key, &frame, &image).await?
            }
            Some(_) => false,
        };
        let stamp = Timestamp::from_millisecond(header.timestamp).unwrap_or(file.created);
        Ok(Some(Last {
            name: file.name,
            page_size: header.page_size,
            commit: header.commit,
            stamp,
            wal: header.wal,
            local,
            same,
        }))
    }

    async fn holds(&self, key: &str, frame: &FrameHeader, image: &[u8]) -> Result<bool, StoreError> {
        let stored = self.store.get(key, None).await?;
        let mut same = false;
        let whole = decode(stored, |number, found| same |= number == frame.page && found == image);
        Ok(whole.is_ok() && same)
    }
}

/// The largest upload that is read back to prove continuity: past this a new copy is cheaper than the memory.
const LARGEST: u64 = 64 << 20;
