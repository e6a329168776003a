//! Random bits for new ids: one place, so that a simulation can make the same ids again.

/// 128 random bits.
///
/// # Errors
/// When the system gives none.
pub fn random_bits() -> Result<u128, getrandom::Error> {
    #[cfg(feature = "simulation")]
    if let Some(bits) = crate::simulation::seeded_bits() {
        return Ok(bits);
    }
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)?;
    Ok(u128::from_be_bytes(bits))
}
