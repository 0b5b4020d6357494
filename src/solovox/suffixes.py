"""The endings by which songs are found in folders; a file that is named may end as it likes."""

SUFFIXES = (
    *(".aac", ".aif", ".aiff", ".flac", ".m4a", ".mka", ".mp3", ".mp4"),
    *(".oga", ".ogg", ".opus", ".wav", ".webm", ".wma"),
)
