//! Properties that hold for any bytes. The fuzz targets call them with new inputs, core's tests with the
//! corpus.

pub mod maze;
