// SPDX-License-Identifier: Apache-2.0
// Tests: tests/cli/generate.bats (the committed page is up to date, and reads well; the completions
// load in their shells and complete).
#include "generate.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <sstream>

#include "commands.h"
#include "usage.h"

namespace holdfast {

namespace {

struct OptionText {
  std::vector<std::string> names;  // with dashes; of a positional one its name
  std::string value, description;  // value: "" for a flag
  bool positional = false, optional_value = false;
};

struct CommandText {
  std::string name, description, examples;
  std::vector<OptionText> options;
};

OptionText option_text(const CLI::Option& option) {
  OptionText text;
  text.description = option.get_description();
  text.positional = option.get_positional();
  if (text.positional) {
    text.names = {option.get_name()};
    return text;
  }
  for (const std::string& name : option.get_snames()) text.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) text.names.push_back("--" + name);
  // Checks of the value follow the name that we gave it.
  const std::string type = option.get_type_name();
  std::size_t check = type.find(':');
  while (check != std::string::npos && check > 0 && type[check - 1] == '[')  // NAME[:HEADER]
    check = type.find(':', check + 1);
  if (option.get_items_expected_max() > 0) text.value = type.substr(0, check);
  text.optional_value = !text.value.empty() && option.get_items_expected_min() == 0;
  return text;
}

std::vector<OptionText> options_of(const CLI::App& app) {
  std::vector<OptionText> options;
  for (const CLI::Option* option : app.get_options({})) options.push_back(option_text(*option));
  return options;
}

std::string examples_of(const CLI::App& app) {
  const std::string footer = app.get_footer();
  const std::size_t line = footer.find('\n');
  return line == std::string::npos ? std::string() : footer.substr(line + 1);
}

std::vector<CommandText> commands_of(const CLI::App& app) {
  std::vector<CommandText> commands;
  for (const CLI::App* sub : app.get_subcommands({}))
    if (!sub->get_group().empty())
      commands.push_back(
          {sub->get_name(), sub->get_description(), examples_of(*sub), options_of(*sub)});
  return commands;
}

// Values that are one of a few words, by what help calls them.
std::string choices(const std::string& value) {
  static const std::map<std::string, std::string> known = {
      {"LEVEL", "fast balanced max"}, {"WHEN", "never changed always"}, {"SHELL", "bash zsh fish"}};
  const auto at = known.find(value);
  return at == known.end() ? std::string() : at->second;
}

bool is_file(const std::string& value) {
  return value == "FILE" || value == "PATH" || value == "DIR" || value == "R";
}

std::string replaced(std::string text, std::string_view what, std::string_view with) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size())
    text.replace(at, what.size(), with);
  return text;
}

// ---- bash

std::string bash_words(const std::vector<OptionText>& options) {
  std::string words;
  for (const OptionText& o : options)
    for (const std::string& name : o.names)
      if (!o.positional) words += (words.empty() ? "" : " ") + name;
  return words;
}

// The arms of a case over the option before the word: what it takes.
std::string bash_values(const std::vector<OptionText>& options) {
  std::string arms;
  for (const OptionText& o : options) {
    if (o.positional || o.value.empty() || o.optional_value) continue;
    const std::string list = choices(o.value);
    const std::string answer = !list.empty()      ? fmt::format("-W '{}'", list)
                               : o.value == "DIR" ? std::string("-d")
                               : is_file(o.value) ? std::string("-f")
                                                  : std::string("-W ''");
    arms += fmt::format("    {}) COMPREPLY=($(compgen {} -- \"$word\")) || :; return ;;\n",
                        fmt::join(o.names, "|"), answer);
  }
  return arms;
}

bool takes_files(const CommandText& command) {
  return std::ranges::any_of(command.options,
                             [](const OptionText& o) { return o.names.front() == "PATH"; });
}

std::string bash(const CLI::App& app) {
  const std::vector<OptionText> globals = options_of(app);
  std::string names, arms;
  for (const CommandText& c : commands_of(app)) {
    names += (names.empty() ? "" : " ") + c.name;
    const std::string words = c.name == "completion" ? choices("SHELL") : bash_words(c.options);
    arms += fmt::format("    {}) options='{}'; files={} ;;\n", c.name, words,
                        takes_files(c) ? "yes" : "");
  }
  std::vector<OptionText> all = globals;
  for (const CommandText& c : commands_of(app))
    for (const OptionText& o : c.options) {
      const bool known =
          std::ranges::any_of(all, [&](const OptionText& a) { return a.names == o.names; });
      if (!known && o.names.front() != "-h") all.push_back(o);
    }
  return fmt::format(R"(# bash completion for holdfast; made by 'holdfast completion bash'.
_holdfast() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command= options= files= i
  COMPREPLY=()
  case $before in
{}  esac
  for ((i = 1; i < COMP_CWORD; i++)); do
    case " {} " in *" ${{COMP_WORDS[i]}} "*) command=${{COMP_WORDS[i]}}; break ;; esac
  done
  case $command in
{}    *) options='{}' ;;
  esac
  if [[ $word == -* || -z $files ]]; then
    COMPREPLY=($(compgen -W "$options {}" -- "$word")) || :
  else
    COMPREPLY=($(compgen -f -- "$word")) || :
  fi
}}
complete -o filenames -o bashdefault -F _holdfast holdfast
)",
                     bash_values(all), names, arms, names, bash_words(globals));
}

// ---- zsh

std::string zsh_text(std::string text) {
  text = replaced(std::move(text), "'", "'\\''");
  for (const char* c : {"[", "]", ":"}) text = replaced(std::move(text), c, std::string("\\") + c);
  return text;
}

std::string zsh_action(const std::string& value) {
  const std::string list = choices(value);
  if (!list.empty()) return fmt::format("({})", list);
  if (value == "DIR") return "_files -/";
  return is_file(value) ? "_files" : " ";
}

std::string zsh_option(const OptionText& o) {
  if (o.positional)
    return fmt::format("      '*:{}:{}'", zsh_text(o.names.front()), zsh_action(o.names.front()));
  std::string lines;
  for (const std::string& name : o.names) {
    const std::string value = o.value.empty() ? std::string()
                              : o.optional_value
                                  ? fmt::format("::{}: ", zsh_text(o.value))
                                  : fmt::format(":{}:{}", o.value, zsh_action(o.value));
    const std::string_view joint = o.optional_value && name.starts_with("--") ? "=-" : "";
    lines += fmt::format("{}      '*{}{}[{}]{}'", lines.empty() ? "" : " \\\n", name, joint,
                         zsh_text(o.description), value);
  }
  return lines;
}

std::string zsh_options(const std::vector<OptionText>& options) {
  std::string lines;
  for (const OptionText& o : options) lines += (lines.empty() ? "" : " \\\n") + zsh_option(o);
  return lines;
}

std::string zsh(const CLI::App& app) {
  std::string names, alternatives, arms;
  const std::string globals = zsh_options(options_of(app));
  for (const CommandText& c : commands_of(app)) {
    names += fmt::format("    '{}:{}'\n", c.name, zsh_text(c.description));
    alternatives += (alternatives.empty() ? "" : "|") + c.name;
    std::vector<OptionText> own = c.options;
    std::erase_if(own, [](const OptionText& o) { return o.names.front() == "-h"; });
    const std::string options = zsh_options(own);
    arms += fmt::format("    {}) _arguments \\\n{}{}{} ;;\n", c.name, options,
                        options.empty() ? "" : " \\\n", globals);
  }
  return fmt::format(R"(#compdef holdfast
# zsh completion for holdfast; made by 'holdfast completion zsh'.
_holdfast() {{
  local -a commands=(
{}  )
  local command=${{words[(r)({})]}}
  case $command in
{}    *) _describe -t commands command commands; _arguments \
{} ;;
  esac
}}
_holdfast "$@"
)",
                     names, alternatives, arms, globals);
}

// ---- fish

std::string fish_option(const OptionText& o, const std::string& condition) {
  std::string line = "complete -c holdfast";
  if (!condition.empty()) line += fmt::format(" -n '{}'", condition);
  for (const std::string& name : o.names)
    line += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
  if (!o.value.empty() && !o.optional_value) {
    const std::string list = choices(o.value);
    line += !list.empty()      ? fmt::format(" -x -a '{}'", list)
            : is_file(o.value) ? std::string(" -r -F")
                               : std::string(" -x");
  }
  return line + fmt::format(" -d '{}'\n", replaced(o.description, "'", "\\'"));
}

std::string fish(const CLI::App& app) {
  std::string text =
      "# fish completion for holdfast; made by 'holdfast completion fish'.\n"
      "complete -c holdfast -f\n";
  for (const OptionText& o : options_of(app)) text += fish_option(o, "");
  for (const CommandText& c : commands_of(app)) {
    text += fmt::format("complete -c holdfast -n __fish_use_subcommand -a {} -d '{}'\n", c.name,
                        replaced(c.description, "'", "\\'"));
    const std::string condition = "__fish_seen_subcommand_from " + c.name;
    if (takes_files(c)) text += fmt::format("complete -c holdfast -n '{}' -F\n", condition);
    if (c.name == "completion")
      text += fmt::format("complete -c holdfast -n '{}' -a '{}'\n", condition, choices("SHELL"));
    for (const OptionText& o : c.options)
      if (!o.positional && o.names.front() != "-h") text += fish_option(o, condition);
  }
  return text;
}

// ---- the manual page

std::string roff(std::string_view text) {
  std::string out;
  bool line_start = true;
  for (const char c : text) {
    if (line_start && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else
      out += c;
    line_start = c == '\n';
  }
  return out;
}

std::string man_option(const OptionText& o) {
  std::string head;
  for (const std::string& name : o.names)
    head += fmt::format("{}\\fB{}\\fR", head.empty() ? "" : ", ", roff(name));
  if (o.optional_value)
    head += fmt::format("{}", roff(o.value));
  else if (!o.value.empty())
    head += fmt::format(" \\fI{}\\fR", roff(o.value));
  return fmt::format(".TP\n{}\n{}.\n", head, roff(o.description));
}

std::string man_synopsis(const CommandText& c) {
  std::string line = fmt::format(".SS \\fB{}\\fR", c.name);
  for (const OptionText& o : c.options)
    if (o.positional)
      line += fmt::format(" \\fI{}\\fR{}", roff(o.names.front()),
                          o.names.front() == "PATH" ? "..." : "");
  return line + "\n";
}

std::string man_command(const CommandText& c) {
  std::string text = man_synopsis(c) + roff(c.description) + ".\n";
  for (const OptionText& o : c.options)
    if (o.names.front() != "-h") text += man_option(o);
  if (!c.examples.empty())
    text += fmt::format(".PP\nExamples:\n.PP\n.nf\n{}\n.fi\n", roff(c.examples));
  return text;
}

constexpr std::string_view kManEnd = R"(.SH SNAPSHOTS
Where a command takes a snapshot, it takes its id, the first digits of it (as many as make it the only one), or
\fBlatest\fR. With \fB:\fIPATH\fR behind it, it is that file or folder of the snapshot, as in \fBlatest:/home/me\fR.
.SH PATTERNS
Exclude patterns mean what they mean to restic: \fB*\fR, \fB?\fR and \fB[a\-z]\fR stay within one component, \fB**\fR is any
number of components, a pattern that begins with \fB/\fR is matched from the root and any other one anywhere, a leading \fB!\fR
takes again what an earlier pattern left out. A pattern that matches a folder matches everything below it.
.SH LISTS OF FILES
\fB\-\-files\-from\fR reads what restic's option of that name reads: a shell pattern on each line, white space around it left out,
empty lines and those that begin with \fB#\fR passed over; \fB\e\fR before a character takes its meaning away. What matches nothing
counts as unreadable. Nothing of this holds for \fB\-\-files\-from0\fR, where a path is taken byte by byte.
.SH ENVIRONMENT
.TP
\fBHOLDFAST_REPO\fR
The repository, where \fB\-\-repo\fR does not name one.
.TP
\fBHOLDFAST_HOME\fR
Folder of holdfast's own files, where \fB\-\-home\fR does not name one.
.TP
\fBHOLDFAST_PASSPHRASE_FILE\fR
File whose first line is the passphrase of a sealed home, where \fB\-\-passphrase\-file\fR does not name one. \fBinit\fR
and \fBrecover\fR seal the home that they make with it.
.TP
\fBHOLDFAST_PASSPHRASE_COMMAND\fR
Shell command whose first line of output is the passphrase, where there is no such file.
.TP
\fBAWS_ACCESS_KEY_ID\fR, \fBAWS_SECRET_ACCESS_KEY\fR, \fBAWS_SESSION_TOKEN\fR
The keys of a repository in a bucket; the token only for keys that end.
.TP
\fBAWS_REGION\fR, \fBAWS_DEFAULT_REGION\fR, \fBAWS_CA_BUNDLE\fR
The bucket's region, and a file of the certificates to trust instead of the system's; before what \fBconfig.toml\fR says.
.TP
\fBhttps_proxy\fR, \fBhttp_proxy\fR, \fBno_proxy\fR
The proxy that a bucket is reached through, as curl reads them.
.TP
\fBHOME\fR, \fBXDG_CONFIG_HOME\fR, \fBXDG_DATA_HOME\fR, \fBXDG_STATE_HOME\fR, \fBXDG_CACHE_HOME\fR
Where the home is when neither \fB\-\-home\fR nor \fBHOLDFAST_HOME\fR says so; see FILES.
.TP
\fBTERM\fR, \fBNO_COLOR\fR
holdfast prints no colours. On a terminal with TERM=dumb it draws no progress line either.
.TP
\fBTZ\fR
The zone that times are shown in. They are stored in UTC.
.SH FILES
With \fB\-\-home\fR \fIDIR\fR or \fBHOLDFAST_HOME\fR everything is in that folder; else each part is in its XDG folder.
.TP
\fBconfig.toml\fR (\fI~/.config/holdfast\fR)
Settings, see CONFIGURATION.
.TP
\fBkeys/\fR (\fI~/.local/share/holdfast\fR)
The device's key. Who can read it can open the backups, unless the home is sealed by a passphrase. Never copy it to another
machine: use \fBrecover\fR there.
.TP
\fBstate/\fR (\fI~/.local/state/holdfast\fR)
What this device saw of the account and its repositories, so that going back behind it is noticed. Must not be lost: without it
an older state of the repository is taken for the newest until this device has seen a newer one again.
.TP
\fBcache/\fR (\fI~/.cache/holdfast\fR)
The index. It can be deleted at any time, and is then read from the repository again.
.SH CONFIGURATION
\fBconfig.toml\fR knows these keys:
.TP
\fBrepository\fR (a string)
The repository, where neither \fB\-\-repo\fR nor \fBHOLDFAST_REPO\fR names one. Written by the first \fBinit\fR or \fBrecover\fR.
.TP
\fBs3.region\fR, \fBs3.ca_file\fR (strings)
As \fBAWS_REGION\fR and \fBAWS_CA_BUNDLE\fR; without either the region is us\-east\-1.
.TP
\fBs3.virtual_host\fR (true or false)
Whether the bucket is part of the host's name (https://BUCKET.HOST/) and not of the path. AWS itself is always reached so.
.SH BUCKETS
A repository can lie in a bucket of any service that speaks S3: \fBs3:https://\fIHOST\fR[\fB:\fIPORT\fR]\fB/\fIBUCKET\fR[\fB/\fIPREFIX\fR], or
\fBs3://\fIBUCKET\fR[\fB/\fIPREFIX\fR] for AWS. The bucket must be there; the keys need the rights to list it, and to get, put and
delete its objects. \fBinit\fR and \fBrecover\fR race a few puts to see that the service honours a conditional PUT
(If\-None\-Match); one that does not is refused. What does not answer is asked again, up to eight times with growing pauses.
.SH JSON
With \fB\-\-json\fR each line of standard output is one object; its \fBmessage_type\fR says what it is. The last one is the
\fBsummary\fR or the \fBerror\fR. All of them are described in \fIdocs/json.md\fR.
.SH SIGNALS
SIGINT, SIGTERM and SIGHUP end a command in order: what was stored is kept, and the next backup goes on from it. A second one
ends it at once, which loses nothing either.
.SH EXIT STATUS
.TP
\fB0\fR
Done. A file that changed each time it was read is named, and \fBls \-l\fR marks it; what it holds may mix two states.
.TP
\fB1\fR
Failed or refused: wrong key or passphrase, no repository there, a full disk, a home that another process uses.
.TP
\fB2\fR
Usage: the command line is wrong.
.TP
\fB3\fR
A source was unreadable; the snapshot stands and has everything else.
.TP
\fB4\fR
Damage was met, or something was restored incompletely. It is named. Of \fBrepair\fR without \fB\-\-apply\fR: there is something
to repair; with it the exit status is 0 when all was done that can be, and what nothing brings back was named.
.TP
\fB10\fR
Alarm: the repository was rolled back or forked, the home was copied, or a device appeared that nobody entitled added.
.TP
\fB130\fR
Interrupted.
.TP
\fB141\fR
The reader of a \fBdump\fR went away before its end.
.SH EXAMPLES
.nf
holdfast \-\-repo /mnt/backup init \-\-paper\-key\-out paper\-key.txt
holdfast backup /home /etc \-\-exclude\-caches \-\-exclude '*.iso'
holdfast snapshots
holdfast find '*.pdf'
holdfast restore latest:/home/me/photos \-\-target photos
holdfast check \-\-read\-data=10
.fi
)";

}  // namespace

Result<int> print_completion(const CLI::App& app, const std::string& shell, Output& out) {
  std::string text;
  if (shell == "bash") {
    text = bash(app);
  } else if (shell == "zsh") {
    text = zsh(app);
  } else if (shell == "fish") {
    text = fish(app);
  } else {
    return usage(fmt::format("completion '{}': expected bash, zsh or fish", escaped(shell)));
  }
  HF_TRY(out.bytes(as_bytes(text)));
  return 0;
}

Result<int> print_man_page(const CLI::App& app, Output& out) {
  std::string text = fmt::format(
      ".\\\" SPDX-License-Identifier: Apache-2.0\n"
      ".\\\" Made by 'holdfast generate-man'; do not edit.\n"
      ".TH HOLDFAST 1 \"\" \"holdfast {}\" \"User commands\"\n"
      ".SH NAME\nholdfast \\- {}\n"
      ".SH SYNOPSIS\n\\fBholdfast\\fR [\\fIGLOBAL OPTIONS\\fR] \\fICOMMAND\\fR [\\fIOPTIONS\\fR]\n"
      ".SH DESCRIPTION\n"
      "holdfast backs up files and folders into a repository that holds nothing but ciphertext, "
      "and restores them.\nGlobal options stand before or after the command.\n"
      ".SH GLOBAL OPTIONS\n",
      kVersion, "end\\-to\\-end encrypted, deduplicating backups");
  for (const OptionText& o : options_of(app)) text += man_option(o);
  text += ".SH COMMANDS\n";
  for (const CommandText& c : commands_of(app)) text += man_command(c);
  text += kManEnd;
  HF_TRY(out.bytes(as_bytes(text)));
  return 0;
}

}  // namespace holdfast
