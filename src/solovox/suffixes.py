"""The endings by which songs are found in folders; a file that is named may end as it likes."""

SUFFIXES = (
    *(".aac", ".aif", ".aiff", ".ape", ".avi", ".caf", ".flac", ".m4a", ".mka", ".mkv", ".mov"),
    *(".mp3", ".mp4", ".oga", ".ogg", ".opus", ".wav", ".webm", ".wma", ".wv"),
)
