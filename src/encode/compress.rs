//! Compression of finished pages.

use std::io::{self, Write};

use flate2::write::GzEncoder;

use crate::model::request::Compression;

/// Gzip's fastest level. An exporter waits for its compressor, not for the network (measured:
/// level 6 needs three times as long for four fifths of the size).
const GZIP_LEVEL: u32 = 1;

/// Appends `plain`, compressed, to `out`.
///
/// With gzip every call makes a whole member, so pages can be compressed side by side and simply
/// follow each other in a file (RFC 1952, section 2.2).
///
/// # Errors
/// None in practice: writing to memory does not fail.
pub fn append(compression: Compression, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    match compression {
        Compression::None => out.write_all(plain),
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(plain)?;
            encoder.finish().map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn pages_compressed_one_by_one_read_as_one_file() {
        let mut file = Vec::new();
        for page in ["one\n", "two\n", ""] {
            append(Compression::Gzip, page.as_bytes(), &mut file).expect("memory");
        }
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(&file[..]).read_to_string(&mut text).expect("gzip");
        assert_eq!(text, "one\ntwo\n");
    }
}
