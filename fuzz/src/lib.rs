//! What must hold for any bytes. Called by the fuzz targets with new bytes, and by core's tests with
//! all that were found worth keeping.

pub mod maze;
