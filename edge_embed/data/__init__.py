"""Read data for training and evaluation: lines of a file, records of named cells, rows of texts.

The standard library is enough; `.parquet` needs pyarrow, and a data set of the hub the library datasets.
"""
