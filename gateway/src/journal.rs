//! The ledger on disk: a line of JSON for every change, only ever appended.
//!
//! A line is handed to the operating system before its change is answered. It survives the death of
//! this process; it may not survive that of the machine, for nothing is synced.

use std::{
    fs::{File, TryLockError},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{cards::Card, charges::Charge, ids::MethodId, keys::Key};

/// How often the lock of the file is tried, and the pause after each.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// A change.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// A payment method was made.
    Method { id: MethodId, card: Arc<Card> },
    /// A charge now stands so.
    Charge {
        charge: Arc<Charge>,
        key: Option<Key>,
        at: DateTime<Utc>,
    },
}

#[derive(Debug)]
pub struct Journal {
    file: File,
    /// Up to here the file has whole lines only.
    length: u64,
    /// Nobody knows what is behind them.
    broken: bool,
}

impl Journal {
    /// Opens or makes the file, for us alone, and gives its lines to `replay` one by one. A last line without
    /// its end was never answered and is cut off.
    pub fn open(path: &Path, replay: impl FnMut(Line)) -> anyhow::Result<Journal> {
        let mut file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .with_context(|| format!("cannot open the ledger {}", path.display()))?;
        lock(&file).with_context(|| format!("cannot lock the ledger {}", path.display()))?;
        let length = read(&mut file, replay)
            .with_context(|| format!("cannot read the ledger {}", path.display()))?;
        file.set_len(length)
            .context("cutting an unfinished line off the ledger")?;
        Ok(Journal {
            file,
            length,
            broken: false,
        })
    }

    /// Appends a line, or leaves the file as it was.
    pub fn append(&mut self, line: &Line) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier line was written in part"));
        }
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        match self.file.write_all(&bytes) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.broken = self.file.set_len(self.length).is_err();
                Err(error)
            }
        }
    }
}

/// Waits a little: a gateway that was just killed may not be quite gone.
fn lock(file: &File) -> anyhow::Result<()> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
    bail!("another gateway uses it")
}

/// How many bytes there are of whole lines.
fn read(file: &mut File, mut replay: impl FnMut(Line)) -> anyhow::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::new(file);
    let (mut length, mut bytes) = (0, Vec::new());
    for number in 1_u64.. {
        bytes.clear();
        let read = reader.read_until(b'\n', &mut bytes)?;
        if read == 0 || !bytes.ends_with(b"\n") {
            break;
        }
        let line = serde_json::from_slice(&bytes)
            .map_err(|error| anyhow!("line {number} cannot be understood: {error}"))?;
        replay(line);
        length += read as u64;
    }
    Ok(length)
}
