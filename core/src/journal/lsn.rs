//! The place of a batch in the whole journal as one word that grows: term, file, sector.

/// `{ term 20 | file number 20 | sector 24 }`; 0 is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

impl Lsn {
    /// No place: before every file.
    pub const NONE: Lsn = Lsn(0);
    /// The highest term, file number.
    pub const PART_MAX: u32 = (1 << 20) - 1;

    /// The last place in a file that can be named: no file of ours is longer.
    pub const SECTOR_MAX: u32 = 0xff_ffff;

    /// The word of a place. Parts beyond their width are cut off: callers check against [`Lsn::PART_MAX`] first.
    pub fn new(term: u32, number: u32, sector: u32) -> Lsn {
        Lsn(u64::from(term & Lsn::PART_MAX) << 44
            | u64::from(number & Lsn::PART_MAX) << 24
            | u64::from(sector & Lsn::SECTOR_MAX))
    }

    /// The term that began the file.
    pub fn term(self) -> u32 {
        (self.0 >> 44) as u32
    }

    /// The number of the file within its term.
    pub fn number(self) -> u32 {
        (self.0 >> 24) as u32 & Lsn::PART_MAX
    }

    /// The place in the file, in units of 512 bytes.
    pub fn sector(self) -> u32 {
        self.0 as u32 & Lsn::SECTOR_MAX
    }

    /// The place in the file in bytes.
    pub fn byte(self) -> u64 {
        u64::from(self.sector()) * super::layout::SECTOR
    }

    /// Whether both name the same file.
    pub fn same_file(self, other: Lsn) -> bool {
        self.0 >> 24 == other.0 >> 24
    }

    /// The place so many sectors further in the same file, or the last that can be named.
    pub fn behind(self, sectors: u32) -> Lsn {
        self.at_sector(self.sector().saturating_add(sectors).min(Lsn::SECTOR_MAX))
    }

    /// The place at another sector of the same file.
    pub fn at_sector(self, sector: u32) -> Lsn {
        Lsn::new(self.term(), self.number(), sector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_order_by_term_then_file_then_sector() {
        let places = [
            Lsn::NONE,
            Lsn::new(1, 0, 8),
            Lsn::new(1, 0, 9),
            Lsn::new(1, 1, 8),
            Lsn::new(2, 0, 8),
            Lsn::new(Lsn::PART_MAX, Lsn::PART_MAX, 0xff_ffff),
        ];
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]));
        let place = Lsn::new(77, 66, 55);
        assert_eq!((place.term(), place.number(), place.sector(), place.byte()), (77, 66, 55, 55 * 512));
        assert!(place.same_file(place.at_sector(9)) && !place.same_file(Lsn::new(77, 67, 55)));
    }
}
