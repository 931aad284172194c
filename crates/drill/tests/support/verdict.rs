//! Assertions about verdicts.

use tidings_drill::Verdict;

/// The server was right.
pub(crate) fn passed(verdict: Verdict) -> Verdict {
    assert!(verdict.passed(), "{verdict}");
    verdict
}

/// The server was wrong; something in the verdict must say so in these words.
pub(crate) fn failed(verdict: &Verdict, words: &str) {
    assert!(!verdict.passed(), "{verdict}");
    assert!(verdict.to_string().contains(words), "{words:?} is not in:\n{verdict}");
}
