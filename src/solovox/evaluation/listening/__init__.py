"""Listening tests after MUSHRA (ITU-R BS.1534-3): made, served and analysed."""
