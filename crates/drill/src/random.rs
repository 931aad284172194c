//! Randomness that can be replayed: the same seed gives the same numbers on every machine, in
//! every version. That is a promise (a verdict names its seed), so the generator is written out
//! here and taken from no crate that may change its mind.

/// A seeded generator: `SplitMix64`, from Steele, Lea and Flood, "Fast Splittable Pseudorandom
/// Number Generators" (OOPSLA 2014), with the constants of Vigna's public-domain `splitmix64.c`.
///
/// It passes `BigCrush`, is a handful of instructions per number, and every starting point is as
/// good as any other, so that [`Random::at`] can give each message a stream of its own.
#[derive(Debug, Clone)]
pub struct Random {
    /// Advances by a fixed odd number; the output is this value, well mixed.
    state: u64,
}

/// The odd number nearest to 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The stream that belongs to one place in the world of this seed: what is at a place can be
    /// computed again at any time, without computing what comes before it.
    pub fn at(seed: u64, place: u64) -> Self {
        Self { state: mixed(mixed(seed.wrapping_add(STEP)) ^ place.wrapping_mul(STEP)) }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mixed(self.state)
    }

    /// A number from 0 to `bound - 1` (0 if `bound` is 0), by Lemire's multiplication; the bias
    /// of at most `bound` in 2^64 is of no account here.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.bits()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// [`Random::below`] for positions in a slice.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// True with a probability of `share` (0.0 never, 1.0 always).
    pub fn chance(&mut self, share: f64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
        let drawn = (self.bits() >> 11) as f64 / (1u64 << 53) as f64;
        drawn < share
    }
}

/// The output function of `SplitMix64`.
fn mixed(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn the_numbers_are_those_of_the_published_algorithm() {
        // First outputs of splitmix64.c for the seed 1234567, as published with Rosetta Code.
        let mut random = Random::new(1_234_567);
        let got: Vec<u64> = (0..5).map(|_| random.bits()).collect();
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(got, published);
    }

    #[test]
    fn numbers_below_a_bound_reach_all_of_it_and_no_more() {
        let mut random = Random::new(444);
        let mut seen = [0u32; 7];
        for _ in 0..7_000 {
            seen[random.index(7)] += 1;
        }
        assert!(seen.iter().all(|&count| (850..1150).contains(&count)), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn a_chance_of_none_never_comes_and_a_chance_of_one_always() {
        let mut random = Random::new(444);
        assert!((0..1_000).all(|_| !random.chance(0.0) && random.chance(1.0)));
    }

    #[test]
    fn neighbouring_places_have_nothing_in_common() {
        let mut drawn: Vec<u64> = (0..10_000).map(|place| Random::at(444, place).bits()).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 10_000);
    }
}
