"""Whole catalogues: many songs, many workers, nothing lost and nothing done twice.

    driver ── takes a shard (claims) ── hands songs, one a worker, to an engine ── manifest
                                                  │
    worker ── fetches a song ── Separator.separate_file ── reads back ── uploads ── record, last

The record of a song is what makes it done: it is written when its stems are in place. All that is
known of a catalogue lies in its output folder, so any run goes on where the last one ended:

    OUT/catalogue.json                 the settings, which hold for all of it
    OUT/stems/album/song.mp3/vocals.wav
    OUT/records/00003/KEY.json         one a song
    OUT/manifest/00003.parquet         the records of a shard that is complete
    OUT/manifest.parquet               of all of them
    OUT/claims/00003/000001.json       who works on a shard
    OUT/.scratch/                      what is not finished
"""
