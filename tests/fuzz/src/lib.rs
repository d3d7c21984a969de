//! Fuzz targets for whatever eats bytes from outside; all of it is in `tests/`, the inputs it begins with in `corpus/`.
