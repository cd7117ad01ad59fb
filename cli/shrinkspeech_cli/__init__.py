"""The command line of ShrinkSpeech: commands and looks."""
