//! The compact form of a token: a version, and the bytes in URL-safe base64.
//!
//! | what | how |
//! |---|---|
//! | the version | `1.` |
//! | numbers | LEB128, in the shortest form |
//! | each part, while bytes remain | system (8 bytes), number of places, number of marks, places, marks |
//! | a place | timeline, LSN |
//! | a mark | log (8 bytes), position, id (16 bytes), timeline or 0, LSN unless that is 0 |
//!
//! Each token has exactly one text, so texts can be compared; any other text is rejected.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use super::{LogMark, Part, Place, Token};
use crate::{
    error::{Error, Result},
    lsn::Lsn,
};

const VERSION: &str = "1.";

impl Token {
    /// The longest text that is accepted, in bytes: 4096, the size of a cookie. A mark takes about 70 bytes, so a token
    /// of more than about fifty logs produces a text that is rejected when it is read. In that case, keep one token for
    /// each log or group of logs.
    pub const MAX_TEXT_LEN: usize = 4096;
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::new();
        self.parts.iter().for_each(|part| write_part(&mut bytes, part));
        f.write_str(VERSION)?;
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// Parses the text that [`Display`](fmt::Display) wrote.
///
/// Fails with [`InvalidInput`](crate::ErrorKind::InvalidInput) if it is anything else.
impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: &str| Error::invalid_input(format!("this is no consistency token: {why}"));
        if text.len() > Self::MAX_TEXT_LEN {
            return Err(invalid(&format!("it has {} bytes, more than {}", text.len(), Self::MAX_TEXT_LEN)));
        }
        let Some(encoded) = text.strip_prefix(VERSION) else {
            return Err(invalid("it does not begin with `1.`, the version that this library reads"));
        };
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| invalid("it is not base64 for URLs"))?;
        let mut rest = Bytes(&bytes);
        let mut parts: Vec<Part> = Vec::new();
        while !rest.0.is_empty() {
            parts.push(rest.part().ok_or_else(|| invalid("its bytes make no sense"))?);
        }
        if !parts.is_sorted_by(|one, next| one.system < next.system) {
            return Err(invalid("its parts are not in order"));
        }
        Ok(Self { parts: parts.into() })
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

fn write_part(bytes: &mut Vec<u8>, part: &Part) {
    bytes.extend(part.system.to_be_bytes());
    write_number(bytes, part.places.len() as u64);
    write_number(bytes, part.marks.len() as u64);
    for place in &part.places {
        write_number(bytes, place.timeline.into());
        write_number(bytes, place.lsn.get());
    }
    for mark in &part.marks {
        bytes.extend(mark.log.to_be_bytes());
        write_number(bytes, mark.position);
        bytes.extend(mark.id.as_bytes());
        write_number(bytes, mark.place.map_or(0, |place| place.timeline.into()));
        if let Some(place) = mark.place {
            write_number(bytes, place.lsn.get());
        }
    }
}

fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7F {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// The bytes that are still to be read.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn part(&mut self) -> Option<Part> {
        let system = u64::from_be_bytes(self.array()?);
        // Each of them takes bytes of its own, so the numbers claimed cannot exceed what is there.
        let (places, marks) = (self.number()?, self.number()?);
        let places = (0..places).map(|_| self.place()).collect::<Option<Vec<_>>>()?;
        let marks = (0..marks).map(|_| self.mark()).collect::<Option<Vec<_>>>()?;
        let in_order = places.is_sorted_by(|one, next| one.timeline < next.timeline)
            && marks.is_sorted_by(|one, next| one.key() < next.key());
        (in_order && !(places.is_empty() && marks.is_empty())).then_some(Part { system, places, marks })
    }

    fn place(&mut self) -> Option<Place> {
        let timeline = self.timeline()?;
        self.place_on(timeline?)
    }

    fn place_on(&mut self, timeline: u32) -> Option<Place> {
        Some(Place { timeline, lsn: Lsn::new(self.number()?) })
    }

    /// The inner `None` stands for 0, which is no timeline.
    fn timeline(&mut self) -> Option<Option<u32>> {
        let timeline = u32::try_from(self.number()?).ok()?;
        Some((timeline > 0).then_some(timeline))
    }

    fn mark(&mut self) -> Option<LogMark> {
        let log = u64::from_be_bytes(self.array()?);
        let position = self.number().filter(|position| (1..=i64::MAX as u64).contains(position))?;
        let id = Uuid::from_bytes(self.array()?);
        let place = match self.timeline()? {
            Some(timeline) => Some(self.place_on(timeline)?),
            None => None,
        };
        Some(LogMark { log, position, id, place })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for index in 0..10 {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7F);
            // The tenth byte has room for a single bit.
            if index == 9 && bits > 1 {
                return None;
            }
            number |= bits << (7 * index);
            if byte & 0x80 == 0 {
                let is_shortest = byte != 0 || index == 0;
                return is_shortest.then_some(number);
            }
        }
        None
    }
}
